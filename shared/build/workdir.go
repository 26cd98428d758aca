package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/owned"
)

// kind is that of the directory in which builds have their work directories. Before there were markers it held nothing else.
var kind = owned.Kind{Name: "build", Version: 1, Known: func(entries map[string]fs.FileMode) bool {
	for name, mode := range entries {
		if mode != fs.ModeDir || !workName.MatchString(name) {
			return false
		}
	}
	return true
}}

// workName matches the names of work directories.
var workName = regexp.MustCompile(`^` + workPrefix + `[0-9]+$`)

const workPrefix = "build-"

// Sweep removes what builds in dir left behind that were killed: a build holds a lock on its work directory for as long as it
// lives, so a directory whose lock is free has no owner any more. A dir that is not there is clean; owned.ErrForeign for one that is
// not ours.
func Sweep(ctx context.Context, eng *engine.Engine, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("build directory: %w", err)
	}
	var names []string
	parent, err := kind.Open(dir)
	if err == nil {
		names, err = parent.Dirs("", workName)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, name := range names {
		w := &workDir{dir: parent.Path(name)}
		locked, err := w.lock()
		if err != nil || !locked {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, w.remove(ctx, eng))
	}
	return errors.Join(append(errs, sweepDonors(ctx, eng, dir), sweepRequests(ctx, eng, dir))...)
}

// sweepDonors removes the donors of builds in dir whose work directory is gone: of a build that was killed while the engine
// was creating its donor, which was there only after the sweep had looked for it.
func sweepDonors(ctx context.Context, eng *engine.Engine, dir string) error {
	donors, err := eng.Client.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", buildLabel))})
	if err != nil {
		return fmt.Errorf("donors of killed builds: %w", err)
	}
	var errs []error
	for _, d := range donors {
		work := d.Labels[buildLabel]
		if filepath.Dir(work) != dir {
			continue
		}
		if _, err := os.Stat(work); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, removeDonor(ctx, eng, d.ID))
		}
	}
	return errors.Join(errs...)
}

// sweepRequests forgets the donors of builds in dir that are gone: of a sweep that was killed between the one and the other.
func sweepRequests(ctx context.Context, eng *engine.Engine, dir string) error {
	ids, err := runDir.Requests()
	if err != nil {
		return fmt.Errorf("requests of killed builds: %w", err)
	}
	var errs []error
	for _, id := range ids {
		req, err := runDir.ReadRequest(id)
		if err != nil || filepath.Dir(filepath.Dir(req.CheckpointDir)) != dir {
			continue // another's; of one that can't be read, the owner can't be guessed
		}
		if _, err := eng.Client.ContainerInspect(ctx, id); engine.IsNotFound(err) {
			errs = append(errs, runDir.Forget(id))
		} else if err != nil {
			errs = append(errs, fmt.Errorf("donor of a killed build: %w", err))
		}
	}
	return errors.Join(errs...)
}

func removeDonor(ctx context.Context, eng *engine.Engine, id string) error {
	if err := eng.Remove(ctx, id); err != nil {
		return err
	}
	return runDir.Forget(id)
}

// workDir is the place of one build: DIR/checkpoint, DIR/rootfs.tar, DIR/mounts.tar, DIR/record, DIR/nomad. It owns the donors, and the
// clones that profile them, that carry its path in their label.
type workDir struct {
	dir  string
	held *os.File
}

func newWorkDir(parent owned.Dir) (*workDir, error) {
	for {
		dir, err := os.MkdirTemp(parent.Path(), workPrefix)
		if err != nil {
			return nil, fmt.Errorf("build directory: %w", err)
		}
		w := &workDir{dir: dir}
		// A sweep may have taken the directory between its creation and the lock; then there is another name to try.
		if locked, err := w.lock(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		} else if locked {
			return w, nil
		}
	}
}

func (w *workDir) checkpoint() string { return filepath.Join(w.dir, "checkpoint") }
func (w *workDir) rootfs() string     { return filepath.Join(w.dir, "rootfs.tar") }
func (w *workDir) mountFiles() string { return filepath.Join(w.dir, "mounts.tar") }
func (w *workDir) record() string     { return filepath.Join(w.dir, "record") }

// full is how much space a disk has at most whose lack of it has made a freeze fail. CRIU does not always say so.
const full = 1 << 20

// explain returns why nothing more could be written to the directory, if that is the reason.
func (w *workDir) explain(err error) error {
	var disk unix.Statfs_t
	if unix.Statfs(w.dir, &disk) != nil || int64(min(disk.Bavail, 1<<40))*disk.Bsize > full && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	return fmt.Errorf("the disk of the build directory %s is full: free space there, or name another with --build-dir: %w", filepath.Dir(w.dir), err)
}

// lock takes the directory's lock if it is free. A directory that vanishes meanwhile counts as locked by its remover.
func (w *workDir) lock() (bool, error) {
	f, err := os.OpenFile(w.dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, fmt.Errorf("lock %s: %w", w.dir, err)
	}
	if _, err := os.Stat(w.dir); errors.Is(err, os.ErrNotExist) { // removed by the holder before us
		f.Close()
		return false, nil
	} else if err != nil {
		f.Close()
		return false, err
	}
	w.held = f
	return true, nil
}

// remove removes the build's donors and its directory, and gives up the lock.
func (w *workDir) remove(ctx context.Context, eng *engine.Engine) error {
	defer w.held.Close()
	donors, err := eng.Client.ContainerList(ctx, container.ListOptions{
		All:     true,
		Filters: filters.NewArgs(filters.Arg("label", buildLabel+"="+w.dir)),
	})
	if err != nil {
		return fmt.Errorf("donors of build %s: %w", filepath.Base(w.dir), err)
	}
	for _, d := range donors {
		if err := removeDonor(ctx, eng, d.ID); err != nil {
			return err // the directory stays, so that the next sweep tries again
		}
	}
	return os.RemoveAll(w.dir)
}
