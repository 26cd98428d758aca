package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/internal/filelock"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// evictionLock is the lock of whoever makes room, so that two don't remove twice as much as is needed.
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
	entries, err := os.ReadDir(c.path(snapshotsDir))
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	users, err := c.users()
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, e := range entries {
		cfg, err := c.load(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		item := Item{Manifest: digest.NewDigestFromEncoded(digest.SHA256, e.Name()), Config: cfg, Bytes: cfg.Sizes.Unpacked()}
		if err != nil {
			item.Config = snapshot.Config{} // damaged: never used, so the first to go
		} else if fi, err := os.Stat(c.path(snapshotsDir, e.Name(), usedFile)); err == nil {
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

// Evict removes a snapshot; ErrInUse if an entry is held or a clone was made of it. One that is not there is no error.
func (c *Cache) Evict(manifest digest.Digest) error {
	name, err := entryName(manifest)
	if err == nil {
		err = c.evict(name)
	}
	if err != nil {
		return fmt.Errorf("cache %s: evicting %s: %w", c.dir, manifest, err)
	}
	return nil
}

// makeRoom evicts the least recently used snapshots until need more bytes fit. Those in use stay, even if it can't be done.
func (c *Cache) makeRoom(ctx context.Context, need int64) error {
	if c.maxBytes == 0 {
		return nil
	}
	lock, err := filelock.Acquire(ctx, c.path(locksDir, evictionLock), filelock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Release()
	items, err := c.List()
	if err != nil {
		return err
	}
	for _, i := range items {
		need += i.Bytes
	}
	for _, i := range items {
		if need <= c.maxBytes {
			break
		}
		switch err := c.evict(i.Manifest.Encoded()); {
		case errors.Is(err, ErrInUse):
		case err != nil:
			return fmt.Errorf("making room: %w", err)
		default:
			need -= i.Bytes
		}
	}
	return nil
}

func (c *Cache) evict(name string) error {
	lock, err := filelock.Try(c.path(locksDir, name), filelock.Exclusive)
	if errors.Is(err, filelock.ErrLocked) {
		return fmt.Errorf("%w: it is being fetched or restored", ErrInUse)
	}
	if err != nil {
		return err
	}
	// Only under the lock: whoever makes a clone holds an entry.
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
