package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/criu"
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

	mu    sync.Mutex
	sizes []size
}

// Paths are the ways to start an app.
const (
	pathCold   = "cold"
	pathEmpty  = "hot_empty"
	pathWarm   = "hot_warm"
	pathPodman = "podman_restore"
	pathFloor  = "floor"
)

// series names the measurements that belong together.
type series struct {
	app  string
	cpus int
	path string
}

// sample is one start.
type sample struct {
	total time.Duration // from the request to the first 200
	fetch time.Duration // downloading, verifying and unpacking the snapshot; hot starts only
	rss   int64         // bytes, after the first answer; 0 if not measured
}

// prepare makes the snapshots and Podman's exports, and takes their sizes.
func (b *bench) prepare(ctx context.Context) (err error) {
	b.samples = map[series][]sample{}
	if b.warm, err = cache.Open(filepath.Join(b.work, "cache"), 0); err != nil {
		return err
	}
	if b.opts.podman {
		if b.podman, err = newPodman(filepath.Join(b.work, "podman")); err != nil {
			return err
		}
	}
	// Nothing is measured yet, so that everything may boot at the same time.
	made, ctx := errgroup.WithContext(ctx)
	for _, a := range b.opts.apps {
		made.Go(func() error {
			slog.Info("making a snapshot", "app", a.name)
			if err := b.snapshot(ctx, a); err != nil {
				return fmt.Errorf("snapshot of %s: %w", a.name, err)
			}
			return nil
		})
		if b.podman == nil {
			continue
		}
		made.Go(func() error {
			slog.Info("making Podman's exports", "app", a.name)
			if err := b.export(ctx, a); err != nil {
				return fmt.Errorf("export by Podman of %s: %w", a.name, err)
			}
			return nil
		})
	}
	return made.Wait()
}

func (b *bench) snapshot(ctx context.Context, a app) error {
	result, err := build.Snapshot(ctx, b.eng, build.Options{
		Spec:       a.spec(filepath.Base(b.work), slices.Max(b.opts.cpus)),
		Ready:      build.Probe{Type: build.ProbeHTTP, Port: a.port, Path: a.path, Status: 200},
		Checkpoint: criu.DefaultOptions(),
		Store:      b.store,
		Dir:        filepath.Join(b.work, "build"),
	})
	if err != nil {
		return err
	}
	entry, err := b.warm.Get(ctx, b.store, result.Manifest)
	if err != nil {
		return err
	}
	defer entry.Release()
	gzipped, err := tarGzip(ctx, filepath.Join(entry.Dir, "checkpoint"))
	if err != nil {
		return err
	}
	b.note(
		size{a.name, sizeMemory, result.Config.Sizes.Memory},
		size{a.name, sizeSnapshot, result.Config.Sizes.Packed},
		size{a.name, sizeTarGzip, gzipped})
	return nil
}

func (b *bench) export(ctx context.Context, a app) error {
	archive, err := b.eng.Client.ImageSave(ctx, []string{a.image})
	if err != nil {
		return err
	}
	defer archive.Close()
	if err := b.podman.load(ctx, archive); err != nil {
		return err
	}
	exported, err := b.podman.checkpoint(ctx, a, b.opts.cpus)
	if err != nil {
		return err
	}
	b.note(size{a.name, sizePodman, exported})
	return nil
}

func (b *bench) note(sizes ...size) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, sizes...)
}

// measure starts everything in turn, round by round, so that what disturbs the machine for a while disturbs all paths.
func (b *bench) measure(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, unpin()) }()
	for round := range b.opts.rounds {
		for _, cpus := range b.opts.cpus {
			if err := pin(cpus); err != nil {
				return err
			}
			if err := b.round(ctx, round, cpus); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) round(ctx context.Context, round, cpus int) error {
	start := func(a app, path string, f func() (sample, error)) error {
		s, err := f()
		if err != nil {
			return fmt.Errorf("%s, %s, %d CPUs: %w", a.name, path, cpus, err)
		}
		slog.Info("started", "round", round+1, "cpus", cpus, "app", a.name, "path", path, "took", s.total.Round(time.Millisecond))
		b.samples[series{a.name, cpus, path}] = append(b.samples[series{a.name, cpus, path}], s)
		return nil
	}
	err := start(floor, pathFloor, func() (sample, error) { return b.startDocker(ctx, floor, cpus, nil) })
	for _, a := range b.opts.apps {
		if err != nil {
			return err
		}
		err = start(a, pathCold, func() (sample, error) { return b.startDocker(ctx, a, cpus, nil) })
		if err == nil {
			err = start(a, pathEmpty, func() (sample, error) { return b.startEmpty(ctx, a, cpus) })
		}
		if err == nil {
			err = start(a, pathWarm, func() (sample, error) { return b.startDocker(ctx, a, cpus, b.warm) })
		}
		if err == nil && b.podman != nil {
			err = start(a, pathPodman, func() (sample, error) { return b.podman.start(ctx, a, cpus) })
		}
	}
	return err
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

// tarGzip returns how many bytes `tar cz` makes of a directory, which is how the 2019 experiment shipped checkpoints.
func tarGzip(ctx context.Context, dir string) (int64, error) {
	var n counter
	cmd := exec.CommandContext(ctx, "tar", "-C", dir, "-cz", ".")
	cmd.Stdout, cmd.Stderr = &n, os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("tar of %s: %w", dir, err)
	}
	return int64(n), nil
}

// counter counts the bytes that are written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
