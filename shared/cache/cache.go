// Package cache keeps unpacked snapshots on a node, ready to be restored: filled once however many ask at the same time,
// never half-filled, bounded in size, and shared by all clones through hard links.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/internal/filelock"
	"github.com/criu-docker/criu-docker/shared/owned"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// DefaultDir is where a node keeps its cache unless told otherwise.
const DefaultDir = "/var/lib/criu-docker/cache"

// Sentinels that callers branch on.
var (
	// ErrInUse is returned by Evict for a snapshot that is being restored or that a clone was made of.
	ErrInUse = errors.New("in use")
	// ErrNoRoom is returned for a snapshot that does not fit beside those in use; nothing of it was fetched.
	ErrNoRoom = errors.New("there is no room for the snapshot")
)

// errDamaged is an entry that is not as it was made. What keeps a good one from being read (too many open files, a disk that fails,
// permissions) is none of it.
var errDamaged = errors.New("the entry is damaged")

// amiss reports whether an entry is absent or damaged, so that fetching it anew helps.
func amiss(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDamaged) }

// What lies in a cache's directory.
const (
	snapshotsDir = "snapshots" // HEX/: whole snapshots by manifest digest
	clonesDir    = "clones"    // CONTAINERID/: what a container is restored from
	tmpDir       = "tmp"       // NAME: what the holder of locks/NAME is building or removing
	locksDir     = "locks"     // files that are locked with flock(2)
)

var subDirs = []string{snapshotsDir, clonesDir, tmpDir, locksDir}

// Files of a snapshot, beside those that snapshot.Unpack writes.
const (
	configFile   = "config.json"
	manifestFile = "manifest.json"
	sizesFile    = "sizes.json" // path → bytes of every file that Unpack wrote
	usedFile     = "used"       // its modification time is the last use
	wholeFile    = "whole"      // is there when everything is, and on disk
)

// Cache is a directory of unpacked snapshots. It is safe for concurrent use by goroutines and processes: they exclude each
// other by file locks, which end with their holder however it dies.
type Cache struct {
	dir      owned.Dir
	maxBytes int64
}

// kind is that of a cache's directory. Before there were markers, each had just these in it.
var kind = owned.Kind{Name: "cache", Version: 1, Known: func(entries map[string]fs.FileMode) bool {
	for _, sub := range subDirs {
		if mode, ok := entries[sub]; !ok || mode != fs.ModeDir {
			return false
		}
	}
	return len(entries) == len(subDirs)
}}

// Names that are ours.
var (
	entryNames = regexp.MustCompile(`^[0-9a-f]{64}$`)
	tmpNames   = regexp.MustCompile(`^(` + cloneLockPrefix + containerIDs + `|[0-9a-f]{64}(` + regexp.QuoteMeta(retiredSuffix) + `)?)$`)
)

// Open returns the cache in dir, creating it if needed, and removes what processes that were killed have left there. maxBytes
// bounds the unpacked snapshots, those that are being fetched included (0: no bound). Those that a clone uses are never removed;
// where they leave too little room for another one, that is refused with ErrNoRoom. owned.ErrForeign for a directory that is not ours.
func Open(dir string, maxBytes int64) (*Cache, error) {
	if maxBytes < 0 {
		return nil, fmt.Errorf("cache %s: its bound is %d bytes: want 0 (none) or more", dir, maxBytes)
	}
	own, err := kind.Make(dir)
	if err != nil {
		return nil, err
	}
	c := &Cache{dir: own, maxBytes: maxBytes}
	for _, sub := range subDirs {
		if _, err := own.Sub(sub); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
	}
	if err := c.removeLeftovers(); err != nil {
		return nil, fmt.Errorf("cache %s: %w", dir, err)
	}
	return c, nil
}

// Look returns the cache in dir for those who only look at it: nothing is created or removed. fs.ErrNotExist if there is none,
// owned.ErrForeign for a directory that is not ours.
func Look(dir string) (*Cache, error) {
	own, err := kind.Open(dir)
	if err != nil {
		return nil, err
	}
	return &Cache{dir: own}, nil
}

// Dir is the cache's directory.
func (c *Cache) Dir() string { return c.dir.Path() }

// Entry is a snapshot in the cache. Its files are read-only and stay while the entry is not released.
type Entry struct {
	Manifest ocispec.Descriptor
	Config   snapshot.Config
	Dir      string // holds checkpoint/, and rootfs.tar and mounts.tar if the snapshot has them
	Warm     bool   // it was there already, and whole
	// Filling is what brings the memory that is not there yet; nil if the snapshot is whole.
	Filling *Filling

	lock    *filelock.Lock // shared; keeps evictions away
	release sync.Once
}

// Release lets the entry be evicted again. Its Filling must not be used any more.
func (e *Entry) Release() {
	e.release.Do(func() {
		if e.Filling != nil {
			e.Filling.close()
		}
		_ = e.lock.Release() // closing gives the lock up whatever it returns
	})
}

// Get returns the snapshot that manifest describes, fetching it from s if it is not there. Of many that ask at the same
// time one fetches and the others wait; when it fails or gives up, the next one tries for itself.
func (c *Cache) Get(ctx context.Context, s store.Store, manifest ocispec.Descriptor) (*Entry, error) {
	e, err := c.get(ctx, s, manifest, c.fetchWhole)
	if err == nil && e.Filling != nil { // another process has begun it
		e.Filling.hasty = true
		if err = e.Filling.FetchAll(ctx); err != nil {
			e.Release()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cache %s: snapshot %s: %w", c.Dir(), manifest.Digest, err)
	}
	return e, nil
}

// Begin is Get for those who can go on without the memory that CRIU leaves to a page server: where that is not there, the
// entry has a Filling, which remembers s. The caller must see to it that the filling comes to its end.
func (c *Cache) Begin(ctx context.Context, s store.Store, manifest ocispec.Descriptor) (*Entry, error) {
	e, err := c.get(ctx, s, manifest, c.fetchFiles)
	if err == nil && e.Filling != nil {
		if err = e.Filling.ensureEager(ctx); err != nil {
			e.Release()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cache %s: snapshot %s: %w", c.Dir(), manifest.Digest, err)
	}
	return e, nil
}

// Resume returns an entry that Begin has made, in this process or another one. open opens the store that the rest comes
// from; it is called when that is needed. fs.ErrNotExist if there is no such entry.
func (c *Cache) Resume(ctx context.Context, manifest digest.Digest, open func(context.Context) (store.Store, error)) (*Entry, error) {
	name, err := entryName(manifest)
	if err == nil {
		var e *Entry
		if e, err = c.held(ctx, ocispec.Descriptor{Digest: manifest}, name, &source{open: open}); err == nil {
			return e, nil
		}
	}
	return nil, fmt.Errorf("cache %s: snapshot %s: %w", c.Dir(), manifest, err)
}

// Config returns the config of a snapshot that is in the cache, whole or not; false if it is not there.
func (c *Cache) Config(manifest digest.Digest) (snapshot.Config, bool) {
	name, err := entryName(manifest)
	if err != nil {
		return snapshot.Config{}, false
	}
	cfg, err := c.load(name)
	return cfg, err == nil
}

// fetcher writes a snapshot, or what there must be of it at least, to dir.
type fetcher func(ctx context.Context, s store.Store, m ocispec.Manifest, cfg snapshot.Config, dir string) error

func (c *Cache) get(ctx context.Context, s store.Store, manifest ocispec.Descriptor, fetch fetcher) (*Entry, error) {
	name, err := entryName(manifest.Digest)
	if err != nil {
		return nil, err
	}
	for warm := true; ; warm = false {
		e, err := c.held(ctx, manifest, name, &source{opened: s})
		if err == nil {
			e.Warm = warm && e.Filling == nil
			return e, nil
		}
		if ctx.Err() != nil || !amiss(err) {
			return nil, err
		}
		if err := c.fill(ctx, s, manifest, name, fetch); err != nil {
			return nil, err
		}
	}
}

// held returns an entry with its lock.
func (c *Cache) held(ctx context.Context, manifest ocispec.Descriptor, name string, src *source) (*Entry, error) {
	lock, err := filelock.Acquire(ctx, c.path(locksDir, name), filelock.Shared)
	if err != nil {
		return nil, err
	}
	e := &Entry{Manifest: manifest, Dir: c.path(snapshotsDir, name), lock: lock}
	for {
		var whole bool
		if e.Config, whole, err = c.use(name); err != nil || whole {
			break
		}
		if e.Filling, err = c.filling(name, src); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		// Another process has made it whole in between.
	}
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return e, nil
}

// use reads the config of a snapshot that is there, notes the use, and reports whether the snapshot is whole; the caller holds
// its lock.
func (c *Cache) use(name string) (cfg snapshot.Config, whole bool, err error) {
	if cfg, err = c.load(name); err != nil {
		return cfg, false, err
	}
	if err := c.checkSizes(name); err != nil {
		return cfg, false, err
	}
	if whole, err = c.isWhole(name); err != nil {
		return cfg, false, err
	}
	now := time.Now()
	_ = os.Chtimes(c.path(snapshotsDir, name, usedFile), now, now) // evictions choose by it, and nothing else
	return cfg, whole, nil
}

// isWhole tells whole entries from those that are being filled. One that was begun before the last boot is an error:
// nothing says what of it has reached the disk.
func (c *Cache) isWhole(name string) (bool, error) {
	if _, err := os.Lstat(c.path(snapshotsDir, name, wholeFile)); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	boot, err := bootID()
	if err != nil {
		return false, err
	}
	state, err := os.ReadFile(c.path(snapshotsDir, name, stateFile))
	if errors.Is(err, fs.ErrNotExist) { // finished between the two looks, or never
		_, err = os.Lstat(c.path(snapshotsDir, name, wholeFile))
		return err == nil, err
	}
	if err == nil && !strings.HasPrefix(string(state), boot) {
		err = fmt.Errorf("%w: its fetching was interrupted by a reboot", errDamaged)
	}
	return false, err
}

func (c *Cache) load(name string) (cfg snapshot.Config, err error) {
	b, err := os.ReadFile(c.path(snapshotsDir, name, configFile))
	if err != nil {
		return cfg, err
	}
	return cfg, unmarshal(configFile, b, &cfg)
}

func unmarshal(file string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %s: %w", errDamaged, file, err)
	}
	return nil
}

// checkSizes finds files that were cut off or lost, as by a full disk or a careless hand: CRIU may hang on such.
func (c *Cache) checkSizes(name string) error {
	b, err := os.ReadFile(c.path(snapshotsDir, name, sizesFile))
	if err != nil {
		return err
	}
	var sizes map[string]int64
	if err := unmarshal(sizesFile, b, &sizes); err != nil {
		return err
	}
	for path, size := range sizes {
		fi, err := os.Lstat(c.path(snapshotsDir, name, path))
		if err != nil {
			return err
		}
		if fi.Size() != size {
			return fmt.Errorf("%w: %s has %d bytes, not %d", errDamaged, path, fi.Size(), size)
		}
	}
	return nil
}

// removeLeftovers removes what lies in tmp and has no owner: its lock is free.
func (c *Cache) removeLeftovers() error {
	names, err := c.dir.Dirs(tmpDir, tmpNames)
	if err != nil {
		return err
	}
	for _, name := range names {
		owner := name
		if entry, ok := strings.CutSuffix(name, retiredSuffix); ok && entryNames.MatchString(entry) {
			owner = entry
		}
		lock, err := filelock.Try(c.path(locksDir, owner), filelock.Exclusive)
		if errors.Is(err, filelock.ErrLocked) {
			continue // a process is at work on it
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(c.path(tmpDir, name)), lock.Remove()); err != nil {
			return fmt.Errorf("removing a leftover: %w", err)
		}
	}
	return nil
}

func (c *Cache) path(elem ...string) string { return c.dir.Path(elem...) }

func (c *Cache) has(name string) bool {
	_, err := os.Lstat(c.path(snapshotsDir, name))
	return !errors.Is(err, fs.ErrNotExist)
}

func entryName(d digest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("manifest digest %q: %w", d, err)
	}
	return d.Encoded(), nil
}
