package cache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/internal/filelock"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// evictionLock is held while room is made, so that two don't remove twice as much as is needed.
const evictionLock = "eviction"

// Item is a snapshot in the cache, for listings.
type Item struct {
	Manifest digest.Digest
	Config   snapshot.Config
	Bytes    int64 // on disk
	Used     time.Time
	Clones   []string // ids of the containers that were made of it
}

// List returns the snapshots in the cache, least recently used first.
func (c *Cache) List() ([]Item, error) {
	names, err := c.dir.Dirs(snapshotsDir, entryNames)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	users, err := c.users()
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, name := range names {
		cfg, err := c.load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		item := Item{Manifest: digest.NewDigestFromEncoded(digest.SHA256, name), Config: cfg, Bytes: cfg.Sizes.Unpacked()}
		if errors.Is(err, errDamaged) {
			item.Config = snapshot.Config{} // never used, so the first to go
		} else if err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		} else if fi, err := os.Stat(c.path(snapshotsDir, name, usedFile)); err == nil {
			item.Used = fi.ModTime()
		}
		item.Clones = users[item.Manifest]
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(a.Manifest, b.Manifest))
	})
	return items, nil
}

// Evict removes a snapshot; ErrInUse if an entry is held or a clone was made of it. One that is not there is not an error.
func (c *Cache) Evict(manifest digest.Digest) error {
	name, err := entryName(manifest)
	if err == nil {
		err = c.evict(name)
	}
	if err != nil {
		return fmt.Errorf("cache %s: evicting %s: %w", c.Dir(), manifest, err)
	}
	return nil
}

// reserve makes the directory of a snapshot that is about to be fetched, and evicts the least recently used ones until it fits
// beside them and what others are fetching. Where it can't, nothing is written, and nothing evicted in vain.
func (c *Cache) reserve(ctx context.Context, name string, cfg snapshot.Config) error {
	lock, err := filelock.Acquire(ctx, c.path(locksDir, evictionLock), filelock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := c.makeRoom(name, cfg.Sizes.Unpacked()); err != nil {
		return err
	}
	if err := os.Mkdir(c.path(tmpDir, name), 0o700); err != nil {
		return err
	}
	return writeJSON(c.path(tmpDir, name, configFile), cfg) // by which others know how much is to come
}

func (c *Cache) makeRoom(name string, need int64) error {
	items, err := c.List()
	if err != nil {
		return err
	}
	items = slices.DeleteFunc(items, func(i Item) bool { return i.Manifest.Encoded() == name }) // it is mended
	held, err := c.inFlight(name)
	if err != nil {
		return err
	}
	idle := int64(0)
	for _, i := range items {
		if len(i.Clones) > 0 {
			held += i.Bytes
		} else {
			idle += i.Bytes
		}
	}
	if c.maxBytes > 0 && need+held > c.maxBytes {
		return c.noRoom(need, held)
	}
	for _, i := range items {
		if c.maxBytes == 0 || need+held+idle <= c.maxBytes {
			break
		}
		if len(i.Clones) > 0 {
			continue
		}
		switch err := c.evict(i.Manifest.Encoded()); {
		case errors.Is(err, ErrInUse):
		case err != nil:
			return fmt.Errorf("making room: %w", err)
		default:
			idle -= i.Bytes
		}
	}
	if c.maxBytes > 0 && need+held+idle > c.maxBytes {
		return c.noRoom(need, held+idle)
	}
	return c.fitsOnDisk(need)
}

func (c *Cache) noRoom(need, held int64) error {
	return fmt.Errorf("%w: it has %d bytes, %d bytes are in use or being fetched, and the cache is bounded to %d: raise its bound", ErrNoRoom, need, held, c.maxBytes)
}

// fitsOnDisk finds a disk that is too full before the clone would.
func (c *Cache) fitsOnDisk(need int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(c.Dir(), &disk); err != nil {
		return fmt.Errorf("how much is free: %w", err)
	}
	if free := int64(min(disk.Bavail, 1<<40)) * disk.Bsize; need > free {
		return fmt.Errorf("%w: it has %d bytes, and %d are free on the disk: free some, or bound the cache", ErrNoRoom, need, free)
	}
	return nil
}

// inFlight is how many bytes the snapshots have that are being fetched, but for one.
func (c *Cache) inFlight(except string) (n int64, err error) {
	names, err := c.dir.Dirs(tmpDir, entryNames)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if name == except || c.has(name) { // the latter is on its way out, and is counted there
			continue
		}
		b, err := os.ReadFile(c.path(tmpDir, name, configFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone
		}
		if err != nil {
			return 0, err
		}
		var cfg snapshot.Config
		if json.Unmarshal(b, &cfg) == nil { // what is half-written has no owner any more
			n += cfg.Sizes.Unpacked()
		}
	}
	return n, nil
}

func (c *Cache) evict(name string) error {
	lock, err := filelock.Try(c.path(locksDir, name), filelock.Exclusive)
	if errors.Is(err, filelock.ErrLocked) {
		return fmt.Errorf("%w: it is being fetched or restored", ErrInUse)
	}
	if err != nil {
		return err
	}
	// Only under the lock: an entry is held while a clone is made from it.
	users, err := c.users()
	if err != nil {
		return errors.Join(err, lock.Release())
	}
	if ids := users[digest.NewDigestFromEncoded(digest.SHA256, name)]; len(ids) > 0 {
		return errors.Join(fmt.Errorf("%w: by container %s", ErrInUse, ids[0]), lock.Release())
	}
	if c.has(name) {
		err = c.discard(name)
	}
	return errors.Join(err, lock.Remove())
}
