package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/mountfiles"
)

// What a donor holds open on mounts from outside is kept when it is frozen. A start of a clone places it before CRIU looks for it, and
// settles it when the clone runs; a start that fails takes it back, at the latest when the container is deleted.

// mountRoots opens the roots of a paused donor's mounts from outside. Once it is frozen, its mounts are gone.
func mountRoots(state runState) (map[int32]*os.File, error) {
	b, err := loadBundle(state.Bundle)
	if err != nil {
		return nil, err
	}
	destinations, err := b.bindDestinations()
	if err != nil {
		return nil, err
	}
	return mountfiles.OpenRoots(state.Pid, destinations)
}

func closeAll(files map[int32]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// keepPatience bounds how long the files of a donor may take to be read.
const keepPatience = time.Minute

// keepFiles writes the archive that the donor's request names, and reports what is in it and what is not. A file system that hangs must
// not keep the engine for ever, which holds the container's lock.
func (c container) keepFiles(req Request, roots map[int32]*os.File) error {
	if req.MountFiles == "" {
		return nil
	}
	held, err := criu.HeldFiles(req.CheckpointDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), keepPatience, fmt.Errorf("they could not be read within %s", keepPatience))
	defer cancel()
	type result struct {
		mountfiles.Kept
		err error
	}
	done := make(chan result, 1)
	go func() {
		kept, err := writeArchive(ctx, req.MountFiles, held, roots)
		done <- result{kept, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err != nil {
		return fmt.Errorf("files that the app holds open on mounts: %w", r.err)
	}
	report, err := c.run.ReadReport(c.id)
	if err != nil {
		return err
	}
	report.KeptFiles, report.NotKept = r.Files, r.Warnings
	return c.writeReport(report)
}

func writeArchive(ctx context.Context, file string, held []criu.HeldFile, roots map[int32]*os.File) (mountfiles.Kept, error) {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an earlier attempt
		return mountfiles.Kept{}, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return mountfiles.Kept{}, err
	}
	kept, err := mountfiles.Keep(ctx, held, roots, f)
	var info os.FileInfo
	if err == nil {
		info, err = f.Stat()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return mountfiles.Kept{}, err
	}
	if info.Size() == 0 {
		return kept, os.Remove(file)
	}
	return kept, nil
}

// placeFiles places what the clone's mounts lack.
func (c container) placeFiles(b *bundle, archive string) error {
	mounts, err := b.placeable()
	if err != nil {
		return err
	}
	if err := c.run.makeSub(placedDir); err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("files of mounts: %w", err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), keepPatience, fmt.Errorf("they could not be written within %s", keepPatience))
	defer cancel()
	return c.run.placed().Place(ctx, c.id, f, mounts)
}

// placeable returns the container's mounts, with the sources of those where files may be placed: directories of the host, bound and
// writable.
func (b *bundle) placeable() ([]mountfiles.Mount, error) {
	rootfs, err := filepath.EvalSymlinks(b.rootfs())
	if err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	byDest := map[string]mountfiles.Mount{}
	for _, m := range b.spec.Mounts {
		dest, err := destinationIn(rootfs, m)
		if err != nil {
			return nil, err
		}
		mount := mountfiles.Mount{Destination: dest}
		o := parseMountOptions(m)
		if o.bind && (o.set|o.allSet)&unix.MS_RDONLY == 0 && filepath.IsAbs(m.Source) {
			mount.Source = m.Source
		}
		byDest[dest] = mount // of several at one place, the last one counts
	}
	return slices.Collect(maps.Values(byDest)), nil
}

// settlePlaced lets what the start has placed stay.
func (c container) settlePlaced() error {
	return c.run.placed().Settle(context.Background(), c.id) // which bounds itself
}

// removePlaced takes back what a start has placed that did not succeed. Of others, nothing is left to take.
func (c container) removePlaced() error {
	return c.run.placed().Undo(context.Background(), c.id)
}

func (d RunDir) placed() mountfiles.Register {
	return mountfiles.Register(filepath.Join(string(d), placedDir))
}
