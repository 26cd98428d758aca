package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/internal/filelock"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// fill fetches a snapshot unless another process has done so meanwhile. It becomes visible by a rename, when everything is
// there that fetch is to bring.
func (c *Cache) fill(ctx context.Context, s store.Store, manifest ocispec.Descriptor, name string, fetch fetcher) error {
	lock, err := filelock.Acquire(ctx, c.path(locksDir, name), filelock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	if _, _, err := c.use(name); !amiss(err) {
		return err
	}
	tmp := c.path(tmpDir, name)
	if err := os.RemoveAll(tmp); err != nil { // a killed filler's
		return err
	}
	mending := false
	if c.has(name) { // damaged
		users, err := c.users()
		if err != nil {
			return err
		}
		if mending = len(users[manifest.Digest]) > 0; mending {
			fetch = c.fetchWhole
		} else if err := c.discard(name); err != nil {
			return err
		}
	}
	err = c.fetch(ctx, s, manifest, name, fetch)
	if err == nil && mending {
		err = c.replace(name, tmp)
	}
	if err == nil {
		err = os.Rename(tmp, c.path(snapshotsDir, name))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return syncPath(c.path(snapshotsDir))
}

// fetch makes an entry in tmp.
func (c *Cache) fetch(ctx context.Context, s store.Store, manifest ocispec.Descriptor, name string, fetch fetcher) error {
	m, cfg, err := snapshot.Load(ctx, s, manifest)
	if err != nil {
		return err
	}
	if err := c.reserve(ctx, name, cfg); err != nil {
		return err
	}
	dir := c.path(tmpDir, name)
	if err := writeJSON(filepath.Join(dir, manifestFile), m); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, usedFile), nil, 0o600); err != nil {
		return err
	}
	return fetch(ctx, s, m, cfg, dir)
}

// fetchWhole is the fetcher of whole entries; they are on disk when they become visible.
func (c *Cache) fetchWhole(ctx context.Context, s store.Store, m ocispec.Manifest, cfg snapshot.Config, dir string) error {
	frames, err := snapshot.Frames(m)
	if err != nil {
		return err
	}
	if err := snapshot.Unpack(ctx, s, m, cfg, dir); err != nil {
		return err
	}
	if err := noteFirst(dir, frames); err != nil {
		return err
	}
	if err := pages.WriteSums(filepath.Join(dir, snapshot.CheckpointName)); err != nil {
		return err
	}
	if err := noteSizes(dir); err != nil {
		return err
	}
	if err := syncTree(dir); err != nil {
		return err
	}
	return markWhole(dir)
}

// fetchFiles is the fetcher of entries that are filled later.
func (c *Cache) fetchFiles(ctx context.Context, s store.Store, m ocispec.Manifest, cfg snapshot.Config, dir string) error {
	frames, err := snapshot.Frames(m)
	if err != nil {
		return err
	}
	if err := snapshot.UnpackFiles(ctx, s, m, cfg, dir); err != nil {
		return err
	}
	if err := noteFirst(dir, frames); err != nil {
		return err
	}
	if err := noteSizes(dir); err != nil {
		return err
	}
	return createState(dir, len(frames))
}

// markWhole says that everything else in dir is there, and on disk.
func markWhole(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, wholeFile), nil, 0o600); err != nil {
		return err
	}
	return syncPath(dir)
}

// noteFirst notes what the app needs first where page servers look for it.
func noteFirst(dir string, frames []snapshot.Frame) error {
	var list []pages.Range
	for _, f := range frames {
		if !f.First {
			continue
		}
		for _, extent := range f.Extents {
			list = append(list, pages.Range{File: f.File, Offset: extent.Offset, Length: extent.Length})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return pages.WriteFirst(filepath.Join(dir, snapshot.CheckpointName), list)
}

// noteSizes notes the sizes of all files of the snapshot.
func noteSizes(dir string) error {
	sizes, err := fileSizes(dir)
	if err != nil {
		return err
	}
	for file := range sizes {
		// Of these, some come and go, and some are what other processes are just writing.
		if file == sizesFile || file == stateFile || file == wholeFile || strings.HasPrefix(file, ".") {
			delete(sizes, file)
		}
	}
	b, err := json.Marshal(sizes)
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, sizesFile), b, 0o600, renameio.WithTempDir(dir))
}

func writeJSON(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// discard removes a snapshot; the caller holds its exclusive lock. It is out of sight at once.
func (c *Cache) discard(name string) error {
	tmp := c.path(tmpDir, name)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Rename(c.path(snapshotsDir, name), tmp); err != nil {
		return err
	}
	return os.RemoveAll(tmp)
}

// fileSizes returns the size of every file below dir by its path there.
func fileSizes(dir string) (map[string]int64, error) {
	sizes := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // what is just being written has got its name
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		sizes[rel] = fi.Size()
		return err
	})
	return sizes, err
}

// syncTree makes a directory with all that is in it durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("making it durable: %w", err)
	}
	return nil
}

func (c *Cache) manifest(name string) (ocispec.Manifest, error) {
	return readManifest(c.path(snapshotsDir, name))
}

func readManifest(dir string) (m ocispec.Manifest, err error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return m, err
	}
	return m, unmarshal(manifestFile, b, &m)
}
