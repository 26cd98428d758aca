// Command bench measures how long a container takes from the request to start it until it answers its first HTTP
// request with 200: booted cold, restored from a snapshot with a warm and with an empty cache, and restored by Podman.
// It runs where Docker and CRIU are, uses the product's own packages, and removes all that it made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/store"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	opts, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, opts)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options say what to measure.
type options struct {
	rounds int
	apps   []app
	cpus   []int
	podman bool

	publish string // checkout to put the last results into, instead of measuring
	store   string // address; a prefix of its own below it is used and emptied
	dir     string // for caches, checkpoints and Podman's files; on a disk
	out     string // where the results go
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "n", 5, "rounds; every path of every app is started once a round")
	names := flags.String("apps", "redmine,fat-app", "apps to measure, beside the floor")
	cpus := flags.String("cpus", defaultCPUs(), "numbers of CPUs to confine the engine and the apps to")
	flags.BoolVar(&o.podman, "podman", true, "measure Podman's restore as well")
	flags.StringVar(&o.store, "store", "gs://snapshots/bench", "store for the snapshots; what the benchmark puts there it removes")
	flags.StringVar(&o.dir, "dir", "/var/lib/criu-docker/bench", "directory for unfinished work, on a disk")
	flags.StringVar(&o.out, "out", "out", "directory for the results")
	flags.StringVar(&o.publish, "publish", "", "measure nothing; copy the results in -out into README.md and docs of this checkout")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-n %d: want 1 round or more", o.rounds)
	}
	for name := range strings.SplitSeq(*names, ",") {
		a, err := appByName(name)
		if err != nil {
			return o, err
		}
		o.apps = append(o.apps, a)
	}
	for s := range strings.SplitSeq(*cpus, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > runtime.NumCPU() {
			return o, fmt.Errorf("-cpus %s: want numbers from 1 to %d, the CPUs of this machine", s, runtime.NumCPU())
		}
		o.cpus = append(o.cpus, n)
	}
	return o, nil
}

// defaultCPUs are 1 and 2, the second of which not every machine has.
func defaultCPUs() string {
	if runtime.NumCPU() == 1 {
		return "1"
	}
	return "1,2"
}

func run(ctx context.Context, opts options) (err error) {
	if opts.publish != "" {
		return publish(opts.out, opts.publish)
	}
	eng, err := engine.Connect(ctx, "")
	if err != nil {
		return err
	}
	defer eng.Close()
	work, err := newWorkDir(opts.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.remove()) }()
	s, err := store.Open(ctx, opts.store+"/"+filepath.Base(work.path))
	if err != nil {
		return err
	}
	defer s.Close()

	b := &bench{eng: eng, store: s, work: work.path, opts: opts}
	defer func() { err = errors.Join(err, b.close(ctx)) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	r, err := b.report(ctx)
	if err != nil {
		return err
	}
	if err := r.write(opts.out); err != nil {
		return err
	}
	slog.Info("results written", "dir", opts.out)
	return r.print(os.Stdout)
}
