package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// cleanupTimeout bounds the removal of one thing, which goes on after ctrl-C.
const cleanupTimeout = time.Minute

// bench is one run. close removes what it made, except for the work directory.
type bench struct {
	eng   *engine.Engine
	store store.Store
	work  string
	opts  options

	warm    *cache.Cache
	podman  *podman
	samples map[series][]sample

	mu           sync.Mutex
	sizes        []size
	publications map[string][]publication // by app, the versions in their order
}

// Paths are the ways to start an app.
const (
	pathCold   = "cold"
	pathEmpty  = "hot_empty"
	pathWarm   = "hot_warm"  // as users get it: the product chooses how memory comes back
	pathLazy   = "hot_lazy"  // warm cache
	pathEager  = "hot_eager" // warm cache
	pathPodman = "podman_restore"
	pathFloor  = "floor"
	// pathApps starts a clone of each of several snapshots at once.
	pathApps = "hot_x8_apps"
)

// crowdApp is what is started many times at once.
const crowdApp = "redmine"

// crowd is how many containers are started at once where hot and cold are compared; crowds are those of the hot series.
const crowd = 8

var crowds = []int{2, 4, 8, 16}

// crowdPath is a way to start n containers at once, and to wait for the last one.
func crowdPath(path string, n int) string { return path + "_x" + strconv.Itoa(n) }

// series names the measurements that belong together.
type series struct {
	app  string
	cpus int
	path string
}

// sample is one start, or one of several containers at once.
type sample struct {
	total time.Duration // from the request to the first 200, of the last container
	fetch time.Duration // downloading, verifying and unpacking the snapshot; hot starts only
	rss   int64         // bytes, after the first answer; 0 if not measured
	// answered and filled are what each of several containers takes in memory, in bytes, at the last one's answer and when
	// the runtime is done with them; 0 if not measured.
	answered, filled int64
}

// run makes and measures everything, ballast last.
func (b *bench) run(ctx context.Context) (err error) {
	b.samples, b.publications = map[series][]sample{}, map[string][]publication{}
	if b.warm, err = cache.Open(filepath.Join(b.work, "cache"), 0); err != nil {
		return err
	}
	if b.opts.podman {
		if b.podman, err = newPodman(filepath.Join(b.work, "podman")); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, unpin()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	unix.Sync() // or the first rounds share the disk with what was just written
	for round := range b.opts.rounds {
		if err := b.serviceRound(ctx, round); err != nil {
			return err
		}
	}
	if err := unpin(); err != nil {
		return err
	}
	if err := b.prepareBallast(ctx); err != nil {
		return err
	}
	unix.Sync()
	for round := range b.opts.rounds {
		if err := b.ballastRound(ctx, round); err != nil {
			return err
		}
	}
	return nil
}

// step is one start of a round.
type step struct {
	app   app
	path  string
	start func() (sample, error)
}

// take starts in turn, round by round, so that what disturbs the machine for a while disturbs all paths.
func (b *bench) take(round, cpus int, steps []step) error {
	if err := pin(cpus); err != nil {
		return err
	}
	for _, s := range steps {
		taken, err := s.start()
		if err != nil {
			return fmt.Errorf("%s, %s, %d CPUs: %w", s.app.name, s.path, cpus, err)
		}
		slog.Info("started", "round", round+1, "cpus", cpus, "app", s.app.name, "path", s.path, "took", taken.total.Round(time.Millisecond))
		key := series{s.app.name, cpus, s.path}
		b.samples[key] = append(b.samples[key], taken)
	}
	return nil
}

// serviceRound is one round of everything but ballast.
func (b *bench) serviceRound(ctx context.Context, round int) error {
	for _, cpus := range b.opts.cpus {
		steps := []step{{floor, pathFloor, func() (sample, error) { return b.startDocker(ctx, floor, cpus, way{}) }}}
		for _, a := range b.opts.services {
			steps = append(steps,
				step{a, pathCold, func() (sample, error) { return b.startDocker(ctx, a, cpus, way{}) }},
				step{a, pathEmpty, func() (sample, error) { return b.startEmpty(ctx, a, cpus) }},
				b.hot(ctx, a, cpus, pathWarm, restore.MemoryAuto))
			if b.opts.full {
				steps = append(steps,
					b.hot(ctx, a, cpus, pathLazy, restore.MemoryLazy), b.hot(ctx, a, cpus, pathEager, restore.MemoryEager))
			}
			if b.podman != nil {
				steps = append(steps, step{a, pathPodman, func() (sample, error) { return b.podman.start(ctx, a, cpus) }})
			}
		}
		if err := b.take(round, cpus, steps); err != nil {
			return err
		}
	}
	a, ok := b.opts.crowded()
	if !ok {
		return nil
	}
	return b.take(round, runtime.NumCPU(), b.crowdSteps(ctx, a, round))
}

func (b *bench) hot(ctx context.Context, a app, cpus int, path string, memory restore.Memory) step {
	return step{a, path, func() (sample, error) { return b.startDocker(ctx, a, cpus, way{b.warm, memory}) }}
}

// crowdSteps start several containers at once: hot and cold in every round, and the rest of the series in a few.
func (b *bench) crowdSteps(ctx context.Context, a app, round int) []step {
	cpus := runtime.NumCPU()
	hot := way{b.warm, restore.MemoryAuto}
	together := func(path string, list []app, w way) step {
		return step{a, path, func() (sample, error) { return b.startCrowd(ctx, list, cpus, w) }}
	}
	steps := []step{together(crowdPath(pathCold, crowd), slices.Repeat([]app{a}, crowd), way{})}
	for _, n := range crowds {
		if n == crowd || round < b.opts.few {
			steps = append(steps, together(crowdPath("hot", n), slices.Repeat([]app{a}, n), hot))
		}
	}
	if round < b.opts.few {
		steps = append(steps, together(pathApps, variants(a), hot))
	}
	return steps
}

// variants are as many apps, with a snapshot each, as are started at once.
func variants(a app) []app {
	var list []app
	for i := range crowd {
		list = append(list, a.variant(i+1))
	}
	return list
}

// bigBallast is the memory, in MiB, from which on a few rounds must do.
const bigBallast = 4 << 10

// ballastRound is one round of all sizes of ballast. The first one asks every clone for all of its memory, off the clock.
func (b *bench) ballastRound(ctx context.Context, round int) error {
	cpus := runtime.NumCPU()
	var steps []step
	for _, a := range b.opts.ballasts {
		if a.mib >= bigBallast && round >= b.opts.few {
			continue
		}
		if round == 0 {
			a.whole = allOfBallast
		}
		steps = append(steps,
			step{a, pathCold, func() (sample, error) { return b.startDocker(ctx, a, cpus, way{}) }},
			b.hot(ctx, a, cpus, pathLazy, restore.MemoryLazy), b.hot(ctx, a, cpus, pathEager, restore.MemoryEager))
	}
	return b.take(round, cpus, steps)
}

// close removes containers, Podman's things and snapshots, also after ctrl-C.
func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var errs []error
	mine := filters.NewArgs(filters.Arg("label", label+"="+filepath.Base(b.work)))
	left, err := b.eng.Client.ContainerList(ctx, container.ListOptions{All: true, Filters: mine})
	errs = append(errs, err)
	for _, c := range left {
		errs = append(errs, restore.Remove(ctx, b.eng, b.warm, c.ID))
	}
	if b.podman != nil {
		errs = append(errs, b.podman.close(ctx))
	}
	return errors.Join(append(errs, b.emptyStore(ctx))...)
}

func (b *bench) emptyStore(ctx context.Context) error {
	refs, err := b.store.ListRefs(ctx, "")
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if err := b.store.DeleteRef(ctx, ref.Name, ref.Generation); err != nil {
			return err
		}
	}
	_, err = b.store.Sweep(ctx)
	return err
}
