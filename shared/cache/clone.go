package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/internal/filelock"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

const (
	cloneLockPrefix = "clone-"
	cloneLockLimit  = 30 * time.Second
	originFile      = "snapshot" // in a clone's directory: digest of the manifest that it was made of
)

// Container ids become names of directories.
const containerIDs = `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`

var containerID = regexp.MustCompile(`^` + containerIDs + `$`)

// Clone is what one container is restored from.
type Clone struct {
	CheckpointDir string // hard links to the entry's files; the hostname is the clone's own
	RootfsDelta   string // "" if the donor changed nothing
	MountFiles    string // "" if there are none
	// Filling is the file that tells how far the snapshot is, with ociruntime.FillingWhole or the id of a boot at its beginning; "" if it
	// is whole already. It stays true when the entry is gone.
	Filling string
}

// Clone makes the directory for a container; it stays until RemoveClone, and keeps the snapshot in the cache. An older
// one of the same container is replaced. With hostname "" the donor's is kept; one that was frozen with the host's has none of
// its own.
func (c *Cache) Clone(e *Entry, containerID, hostname string) (Clone, error) {
	clone, err := c.clone(e, containerID, hostname)
	if err != nil {
		return Clone{}, fmt.Errorf("cache %s: clone for container %q: %w", c.Dir(), containerID, err)
	}
	return clone, nil
}

// RemoveClone removes a container's directory; one that is gone is not an error.
func (c *Cache) RemoveClone(containerID string) error {
	lock, err := c.lockClone(containerID)
	if err == nil {
		err = errors.Join(c.discardClone(containerID), lock.Remove())
	}
	if err != nil {
		return fmt.Errorf("cache %s: removing the clone for container %q: %w", c.Dir(), containerID, err)
	}
	return nil
}

// Clones returns the ids of the containers that have a directory.
func (c *Cache) Clones() ([]string, error) {
	names, err := c.dir.Dirs(clonesDir, containerID)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	// Each of ours had its origin in it when it got its name.
	return slices.DeleteFunc(names, func(id string) bool {
		_, err := os.Lstat(c.path(clonesDir, id, originFile))
		return errors.Is(err, fs.ErrNotExist)
	}), nil
}

func (c *Cache) clone(e *Entry, id, hostname string) (Clone, error) {
	lock, err := c.lockClone(id)
	if err != nil {
		return Clone{}, err
	}
	if err := c.discardClone(id); err != nil {
		return Clone{}, errors.Join(err, lock.Remove())
	}
	tmp, dir := c.path(tmpDir, cloneLockPrefix+id), c.path(clonesDir, id)
	clone := Clone{CheckpointDir: filepath.Join(dir, snapshot.CheckpointName)}
	parts, err := buildClone(tmp, e, hostname)
	if parts.delta {
		clone.RootfsDelta = filepath.Join(dir, snapshot.RootfsName)
	}
	if parts.mountFiles {
		clone.MountFiles = filepath.Join(dir, snapshot.MountFilesName)
	}
	if parts.filling {
		clone.Filling = filepath.Join(dir, stateFile)
	}
	if err == nil {
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		return Clone{}, errors.Join(err, os.RemoveAll(tmp), lock.Remove())
	}
	return clone, lock.Remove()
}

// cloneParts are what a clone's directory need not have: a container-layer delta, files of mounts, and the state of a snapshot that is
// still being filled.
type cloneParts struct{ delta, mountFiles, filling bool }

// buildClone fills dir, and tells what is in it. Nothing is
// synced, so that nothing waits for it: if the machine goes down before it is on disk, CRIU finds no checkpoint.
func buildClone(dir string, e *Entry, hostname string) (parts cloneParts, err error) {
	from, to := filepath.Join(e.Dir, snapshot.CheckpointName), filepath.Join(dir, snapshot.CheckpointName)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return parts, err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return parts, err
	}
	for _, f := range files {
		if err := os.Link(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return parts, err
		}
	}
	if hostname != "" && e.Config.Run.Security.UTSMode != "host" {
		if err := criu.SetHostname(to, hostname); err != nil {
			return parts, err
		}
	}
	if parts.delta, err = linkIfThere(filepath.Join(e.Dir, snapshot.RootfsName), filepath.Join(dir, snapshot.RootfsName)); err != nil {
		return parts, err
	}
	if e.Config.Sizes.MountFiles > 0 {
		if err := os.Link(filepath.Join(e.Dir, snapshot.MountFilesName), filepath.Join(dir, snapshot.MountFilesName)); err != nil {
			return parts, err
		}
		parts.mountFiles = true
	}
	if e.Filling != nil {
		if parts.filling, err = linkIfThere(filepath.Join(e.Dir, stateFile), filepath.Join(dir, stateFile)); err != nil {
			return parts, err
		}
	}
	return parts, os.WriteFile(filepath.Join(dir, originFile), []byte(e.Manifest.Digest), 0o600)
}

func linkIfThere(from, to string) (bool, error) {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// discardClone removes a container's directory, and what a killed process has left of it; the caller holds its lock.
func (c *Cache) discardClone(id string) error {
	tmp := c.path(tmpDir, cloneLockPrefix+id)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Rename(c.path(clonesDir, id), tmp); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return os.RemoveAll(tmp)
}

func (c *Cache) lockClone(id string) (*filelock.Lock, error) {
	if !containerID.MatchString(id) {
		return nil, errors.New("that is no container id: want letters, digits, '_', '.' and '-'")
	}
	ctx, cancel := context.WithTimeout(context.Background(), cloneLockLimit)
	defer cancel()
	return filelock.Acquire(ctx, c.path(locksDir, cloneLockPrefix+id), filelock.Exclusive)
}

// users returns the containers that were made of each snapshot.
func (c *Cache) users() (map[digest.Digest][]string, error) {
	ids, err := c.Clones()
	if err != nil {
		return nil, err
	}
	users := map[digest.Digest][]string{}
	for _, id := range ids {
		b, err := os.ReadFile(c.path(clonesDir, id, originFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
		d := digest.Digest(strings.TrimSpace(string(b)))
		users[d] = append(users[d], id)
	}
	return users, nil
}
