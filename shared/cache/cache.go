// Package cache keeps unpacked snapshots on a node, ready to be restored: filled once however many ask at the same time,
// never half-filled, bounded in size, and shared by all clones through hard links.
package cache

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// DefaultDir is where a node keeps its cache unless told otherwise.
const DefaultDir = "/var/lib/criu-docker/cache"

// Cache is a directory of unpacked snapshots. It is safe for concurrent use by goroutines and processes.
type Cache struct {
	// unexported fields
}

// Open returns the cache in dir, creating it if needed. maxBytes bounds the unpacked snapshots kept (0: no bound);
// those that a clone uses are never removed, even beyond the bound.
func Open(dir string, maxBytes int64) (*Cache, error) { panic("not yet") }

// Entry is a snapshot in the cache. Its files are read-only and stay while the entry is not released.
type Entry struct {
	Manifest ocispec.Descriptor
	Config   snapshot.Config
	Dir      string // holds checkpoint/, and rootfs.tar if the donor changed its container layer
	Warm     bool   // it was there already
}

// Release lets the entry be evicted again.
func (e *Entry) Release() { panic("not yet") }

// Get returns the snapshot that manifest describes, fetching it from s if it is not there.
func (c *Cache) Get(ctx context.Context, s store.Store, manifest ocispec.Descriptor) (*Entry, error) {
	panic("not yet")
}

// Clone is what one container is restored from.
type Clone struct {
	CheckpointDir string // hard links to the entry's files; the hostname is the clone's own
	RootfsDelta   string // "" if the donor changed nothing
}

// Clone makes the directory for a container; it stays until RemoveClone, and keeps the snapshot in the cache.
func (c *Cache) Clone(e *Entry, containerID, hostname string) (Clone, error) { panic("not yet") }

// RemoveClone removes a container's directory; one that is gone is no error.
func (c *Cache) RemoveClone(containerID string) error { panic("not yet") }

// Clones returns the ids of the containers that have a directory.
func (c *Cache) Clones() ([]string, error) { panic("not yet") }
