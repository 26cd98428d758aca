package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/build"
)

// prepare makes the services' snapshots and Podman's exports, and takes their sizes.
func (b *bench) prepare(ctx context.Context) error {
	made, mctx := errgroup.WithContext(ctx)
	if b.opts.full {
		made.SetLimit(1) // publications are measured
	} // else nothing is measured yet, so that everything may boot at the same time
	for _, a := range b.opts.services {
		made.Go(func() error { return b.snapshot(mctx, a) })
		if b.podman == nil {
			continue
		}
		made.Go(func() error {
			slog.Info("making Podman's exports", "app", a.name)
			if err := b.export(mctx, a); err != nil {
				return fmt.Errorf("export by Podman of %s: %w", a.name, err)
			}
			return nil
		})
	}
	if err := made.Wait(); err != nil {
		return err
	}
	a, ok := b.opts.crowded()
	if !ok {
		return nil
	}
	slog.Info("making snapshots to be started at once", "app", a.name, "snapshots", crowd)
	made, mctx = errgroup.WithContext(ctx)
	made.SetLimit(runtime.NumCPU())
	for _, v := range variants(a) {
		made.Go(func() error {
			result, _, err := b.publish(mctx, v, runtime.NumCPU())
			if err != nil {
				return err
			}
			_, err = b.warmUp(mctx, result)
			return err
		})
	}
	return made.Wait()
}

// prepareBallast makes one snapshot after the other, since each needs disk for its memory several times while it is made.
func (b *bench) prepareBallast(ctx context.Context) error {
	for _, a := range b.opts.ballasts {
		slog.Info("making a snapshot", "app", a.name)
		result, _, err := b.publish(ctx, a, runtime.NumCPU())
		if err != nil {
			return err
		}
		if _, err := b.warmUp(ctx, result); err != nil {
			return err
		}
		b.noteSizes(a, result)
	}
	return nil
}

// snapshot publishes as many versions of a service's snapshot as are asked for, and keeps the last one.
func (b *bench) snapshot(ctx context.Context, a app) error {
	var result *build.Result
	for version := range b.opts.versions() {
		slog.Info("making a snapshot", "app", a.name, "version", version+1)
		r, p, err := b.publish(ctx, a, slices.Max(b.opts.cpus))
		if err != nil {
			return err
		}
		result = r
		if b.opts.full {
			b.mu.Lock()
			b.publications[a.name] = append(b.publications[a.name], p)
			b.mu.Unlock()
		}
	}
	dir, err := b.warmUp(ctx, result)
	if err != nil {
		return err
	}
	gzipped, err := tarGzip(ctx, filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	b.noteSizes(a, result)
	b.note(size{a.name, sizeTarGzip, gzipped})
	return nil
}

// warmUp puts a snapshot into the node's cache, which evicts none during a run, and returns where it is there.
func (b *bench) warmUp(ctx context.Context, result *build.Result) (dir string, err error) {
	entry, err := b.warm.Get(ctx, b.store, result.Manifest)
	if err != nil {
		return "", err
	}
	defer entry.Release()
	return entry.Dir, nil
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

func (b *bench) noteSizes(a app, result *build.Result) {
	b.note(
		size{a.name, sizeMemory, result.Config.Sizes.Memory},
		size{a.name, sizeSnapshot, result.Config.Sizes.Packed})
}

func (b *bench) note(sizes ...size) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sizes = append(b.sizes, sizes...)
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
