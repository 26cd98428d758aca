// Command bench measures how long a container takes from the request to start it until it answers its first HTTP
// request with 200: booted cold, restored from a snapshot with a warm and with an empty cache, and restored by Podman;
// one at a time and many at once, over the size of an app's memory, and what publishing a snapshot takes.
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
	"slices"
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
	full     bool // measure everything, not just what the demo shows
	rounds   int
	few      int // rounds of what takes long
	services []app
	ballasts []app
	cpus     []int
	podman   bool
	many     int // containers that are started at once, instead of everything else; 0 for none

	publish string // checkout to put the last results into, instead of measuring
	store   string // address; a prefix of its own below it is used and emptied
	dir     string // for caches, checkpoints and Podman's files; on a disk
	out     string // where the results go
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	suite := flags.String("suite", "full", "quick: hot and cold, and the peers; full: also publishing, lazy and eager memory, ballast, and many starts at once")
	flags.IntVar(&o.rounds, "n", 10, "rounds; every path of every app is started once a round")
	flags.IntVar(&o.few, "few", 3, "rounds, of these, in which the biggest apps and crowds are started too, and versions that are published")
	names := flags.String("apps", "", "apps to measure, beside the floor (default: all of the suite)")
	cpus := flags.String("cpus", defaultCPUs(), "numbers of CPUs to confine the engine and the apps to")
	flags.BoolVar(&o.podman, "podman", true, "measure Podman's restore as well")
	flags.StringVar(&o.store, "store", "gs://snapshots/bench", "store for the snapshots; what the benchmark puts there it removes")
	flags.StringVar(&o.dir, "dir", "/var/lib/criu-docker/bench", "directory for unfinished work, on a disk")
	flags.StringVar(&o.out, "out", "out", "directory for the results")
	flags.IntVar(&o.many, "many", 0, "measure nothing but this many starts of the floor's app at once, cold and hot in turn, and print the ratios")
	flags.StringVar(&o.publish, "publish", "", "measure nothing; copy the results in -out into README.md and docs of this checkout")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.many < 0 {
		return o, fmt.Errorf("-many %d: want 0, for none, or a number of containers", o.many)
	}
	if o.rounds < 1 {
		return o, fmt.Errorf("-n %d: want 1 round or more", o.rounds)
	}
	if o.few < 1 {
		return o, fmt.Errorf("-few %d: want 1 round or more", o.few)
	}
	if *suite != "quick" && *suite != "full" {
		return o, fmt.Errorf("-suite %s: want quick or full", *suite)
	}
	o.full = *suite == "full"
	if err := o.choose(*names); err != nil {
		return o, err
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

// choose takes the named apps, or all of the suite.
func (o *options) choose(names string) error {
	if names == "" {
		o.services = services
		if o.full {
			o.ballasts = ballasts
		}
		return nil
	}
	for name := range strings.SplitSeq(names, ",") {
		a, err := appByName(name)
		if err != nil {
			return err
		}
		if isService(name) {
			o.services = append(o.services, a)
		} else {
			o.ballasts = append(o.ballasts, a)
		}
	}
	return nil
}

// crowded is the app that is started many times at once, if there is one in this run.
func (o *options) crowded() (a app, ok bool) {
	i := slices.IndexFunc(o.services, func(a app) bool { return a.name == crowdApp })
	if !o.full || i < 0 {
		return app{}, false
	}
	return o.services[i], true
}

// versions is how many snapshots of a service are published: where that is measured, one that finds the store empty and
// others that do not.
func (o *options) versions() int {
	if o.full {
		return max(o.few, 2)
	}
	return 1
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
	if opts.many > 0 {
		return b.many(ctx, os.Stdout)
	}
	if err := b.run(ctx); err != nil {
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
