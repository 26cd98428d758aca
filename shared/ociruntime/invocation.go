package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"
)

// invocation is a runtime command line, taken apart as far as we need it.
type invocation struct {
	args    []string // all of it, as given
	global  []string // what stands before the command
	command string
	id      string

	// global flags
	root           string // where runc keeps its state
	log, logFormat string
	systemdCgroup  bool
	// flags of create
	bundle, pidFile, consoleSocket string
	noPivot                        bool
	// further flags of supervise: its order
	order order
	turn  bool // it has the clone's turn, and ends it
	// flag of checkpoint
	leaveRunning bool
	// flag of delete
	force bool
	// unknown is set if there are flags that we don't know. The command can't be carried out as it is meant then.
	unknown error
}

// errNotOurs means that a command line is left to runc: for other commands, and for errors in its usage.
var errNotOurs = errors.New("left to runc")

// parse takes a command line apart in runc's own way: flags come before operands, and the id is the first operand.
func parse(args []string) (invocation, error) {
	inv := invocation{args: args}
	global := newFlags()
	global.StringVar(&inv.log, "log", "", "")
	global.StringVar(&inv.logFormat, "log-format", "text", "")
	global.StringVar(&inv.root, "root", "/run/runc", "")
	global.String("rootless", "", "")
	global.String("criu", "", "")
	global.Bool("debug", false, "")
	global.BoolVar(&inv.systemdCgroup, "systemd-cgroup", false, "")
	if err := global.Parse(args); err != nil || global.NArg() < 2 {
		return inv, errNotOurs
	}
	rest := global.Args()
	inv.global = args[:len(args)-len(rest)]
	inv.command = rest[0]

	flags := newFlags()
	switch inv.command {
	case "create":
		flags.StringVarP(&inv.bundle, "bundle", "b", ".", "")
		flags.StringVar(&inv.pidFile, "pid-file", "", "")
		flags.StringVar(&inv.consoleSocket, "console-socket", "", "")
		flags.String("pidfd-socket", "", "")
		flags.BoolVar(&inv.noPivot, "no-pivot", false, "")
		flags.Bool("no-new-keyring", false, "")
		flags.Int("preserve-fds", 0, "")
	case "checkpoint":
		flags.BoolVar(&inv.leaveRunning, "leave-running", false, "")
		for _, name := range []string{"image-path", "work-path", "parent-path", "page-server", "manage-cgroups-mode", "empty-ns", "status-fd"} {
			flags.String(name, "", "")
		}
		for _, name := range []string{
			"tcp-established", "tcp-skip-in-flight", "link-remap", "ext-unix-sk", "shell-job", "lazy-pages",
			"file-locks", "pre-dump", "auto-dedup",
		} {
			flags.Bool(name, false, "")
		}
	case "delete":
		flags.BoolVarP(&inv.force, "force", "f", false, "")
	case "kill":
		flags.BoolP("all", "a", false, "")
	case "start":
	case "supervise":
		flags.StringVar(&inv.bundle, "bundle", "", "")
		flags.BoolVar(&inv.noPivot, "no-pivot", false, "")
		flags.DurationVar(&inv.order.timeout, "timeout", 0, "")
		flags.BoolVar(&inv.order.networkFirst, "network-first", false, "")
		flags.BoolVar(&inv.order.lazy, "lazy", false, "")
		flags.BoolVar(&inv.turn, "turn", false, "")
	default:
		return inv, errNotOurs
	}
	if err := flags.Parse(rest[1:]); err != nil {
		return inv.withUnknown(flags, rest[1:], err)
	}
	if flags.NArg() < 1 {
		return inv, errNotOurs
	}
	inv.id = flags.Arg(0)
	return inv, nil
}

// withUnknown is for flags of a later engine. Those that we know are taken, and the id is the last operand.
func (inv invocation) withUnknown(flags *pflag.FlagSet, args []string, unknown error) (invocation, error) {
	if inv.command == "kill" { // whose last operand is the signal; runc knows all that is to be known
		return inv, errNotOurs
	}
	flags.ParseErrorsAllowlist.UnknownFlags = true
	_ = flags.Parse(args)
	inv.id = args[len(args)-1]
	inv.unknown = fmt.Errorf("%s %s does not understand how it was called (%w): update criu-docker, or stay with the engine that it was made for",
		Name, inv.command, unknown)
	return inv, nil
}

func newFlags() *pflag.FlagSet {
	f := pflag.NewFlagSet(Name, pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	return f
}

// logError reports err where the engine looks for it: as the last entry of the --log file, and on standard error.
func (inv invocation) logError(err error) {
	fmt.Fprintf(os.Stderr, "%v\n", err)
	if inv.log == "" {
		return
	}
	f, ferr := os.OpenFile(inv.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if ferr != nil {
		return // standard error has it
	}
	defer f.Close()
	now := time.Now().UTC().Format(time.RFC3339)
	if inv.logFormat == "json" {
		// The field names are logrus's, which go-runc reads.
		_ = json.NewEncoder(f).Encode(map[string]string{"level": "error", "msg": err.Error(), "time": now})
		return
	}
	fmt.Fprintf(f, "time=%q level=error msg=%q\n", now, err)
}
