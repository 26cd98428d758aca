// Package ociruntime is criu-docker-runc, an OCI runtime that hands everything to runc except what a request asks
// otherwise: donors get their network namespace by path and are frozen to where the build wants it; clones are restored
// instead of created.
//
// A clone's life:
//
//	create   a supervisor runs `runc restore` and sits between runc and CRIU. CRIU forks the clone's first task and tells
//	         its pid. create writes the pid file and returns.
//	         The engine now wires the network, while CRIU goes on, and waits before the first instruction of the app.
//	start    tells the supervisor, which lets CRIU go on: the app runs.
//	         start fails with CRIU's own first error if it doesn't.
//	delete   as runc does, and what we made for this start (network namespace, socket) goes too.
//
// A running clone needs none of us: like any container of runc's it is its shim's child and ends with the shim. Before
// that, if supervisor, runc or CRIU is killed, the others and the first task end with it, and start fails. delete tidies up
// what they would have tidied up.
package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/criu-docker/criu-docker/shared/version"
)

// Name is the runtime's file name.
const Name = "criu-docker-runc"

// runcEnv names the environment variable that points at another runc than the one on PATH.
const runcEnv = "CRIU_DOCKER_RUNC"

// Main runs one runtime command and returns the exit code. args are as in os.Args.
func Main(args []string) int {
	switch filepath.Base(args[0]) {
	case ShimName:
		if err := shim(args); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", Name, err)
			return 127
		}
		return 0
	case PagesName:
		return serveWhole(args[1:])
	}
	if len(args) == 2 && args[1] == "version" { // not one of runc's commands; --version is, and is answered for runc
		fmt.Printf("%s %s\n", Name, version.Get().Line())
		return 0
	}
	collectNothing()
	inv, err := parse(args[1:])
	if err != nil { // not a command line that we know: runc's to judge
		return handOver(args[1:])
	}
	c := container{run: DefaultRunDir, id: inv.id}

	switch inv.command {
	case "supervise":
		supervise(inv)
	case "create", "start", "kill", "delete", "checkpoint":
		req, rerr := c.run.ReadRequest(c.id)
		forgotten := errors.Is(rerr, fs.ErrNotExist) || errors.Is(rerr, ErrUnreadable)
		switch {
		case forgotten && inv.command == "create":
			err = c.createForgotten(inv, rerr)
		case forgotten:
			return handOver(args[1:])
		case rerr != nil:
			err = rerr
		default:
			err = c.do(inv, req)
			if err != nil && inv.command != "kill" && inv.command != "delete" {
				c.noteError(err)
			}
		}
	default:
		return handOver(args[1:])
	}
	if err != nil {
		inv.logError(err)
		return 1
	}
	return 0
}

// collectNothing spares a process that lives for one command, or for one restore, what garbage collection costs. It begins only
// where there is more than any of them needs.
func collectNothing() {
	const ample = 256 << 20
	debug.SetMemoryLimit(ample)
	debug.SetGCPercent(-1)
}

// do runs a command on a container that has a request.
func (c container) do(inv invocation, req Request) error {
	switch {
	case inv.unknown != nil && (inv.command != "create" || req.Kind != KindClone):
		return inv.unknown
	case inv.command == "create" && req.Kind == KindDonor:
		return c.createDonor(inv, req)
	case inv.command == "create" && req.Kind == KindClone:
		return c.createClone(inv, req)
	case inv.command == "start" && req.Kind == KindClone:
		return c.startClone(inv)
	case inv.command == "kill" && req.Kind == KindClone:
		return c.kill(inv)
	case inv.command == "delete":
		return c.delete(inv)
	case inv.command == "checkpoint":
		return c.checkpoint(inv, req)
	case req.Kind != KindDonor && req.Kind != KindClone:
		return fmt.Errorf("request for container %.12s: kind = %q: want %q or %q", c.id, req.Kind, KindDonor, KindClone)
	default:
		return execRunc(inv.args)
	}
}

// container is one container's place in the run directory.
type container struct {
	run RunDir
	id  string
}

const (
	reportName = "report.json"
	socketName = "sock" // short: a unix socket address holds 107 bytes, and an id takes 64
	confName   = "criu.conf"
	// identityName has what is in the container's own file. That one is the app's by the time that hooks need it.
	identityName = "identity.json"
	workName     = "work" // CRIU's and runc's logs of the last freeze or restore
	dumpLog      = "dump.log"
	restoreLog   = "restore.log"
)

func (c container) path(name string) string { return filepath.Join(c.run.stateDir(c.id), name) }

// handOver becomes runc; it returns only if that fails.
func handOver(args []string) int {
	fmt.Fprintf(os.Stderr, "%s: %v\n", Name, execRunc(args))
	return 127
}

func execRunc(args []string) error {
	path, err := runcPath()
	if err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", path, syscall.Exec(path, append([]string{path}, args...), os.Environ()))
}

func runcPath() (string, error) {
	if path := os.Getenv(runcEnv); path != "" {
		return path, nil
	}
	path, err := exec.LookPath("runc")
	if err != nil {
		return "", fmt.Errorf("runc is not on PATH: install it, or name it in %s: %w", runcEnv, err)
	}
	return path, nil
}
