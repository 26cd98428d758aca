// Package object is what the store needs of a place that keeps bytes under keys: a directory, a bucket. Blobs, refs and
// locks are built once on top of it.
package object

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Sentinels that backends wrap. Any other error means that the operation's outcome is unknown.
var (
	// ErrNotFound: the place answers, and has no such object.
	ErrNotFound = errors.New("no such object")
	// ErrNoStore: there is nothing at the place where objects would be. Create makes it.
	ErrNoStore = errors.New("there is no store")
	// ErrPrecondition: the object is not in the generation that was asked for.
	ErrPrecondition = errors.New("object is in another generation")
)

// Absent as the wanted generation asks that an object must not exist.
const Absent = ""

// Info describes one object.
type Info struct {
	Key        string
	Size       int64     // bytes
	Generation string    // opaque, never empty; changes with every write
	Updated    time.Time // by the clock of the place
}

// Bucket keeps objects. Keys are slash-separated paths of clean, non-empty parts. Implementations are safe for concurrent use by
// goroutines, processes and machines; listing and reading see every write that has returned.
type Bucket interface {
	// Create makes the place if it does not exist and it is up to us to make it. Every other method but Close may fail with
	// ErrNoStore.
	Create(ctx context.Context) error
	// Put writes the size bytes of r under key, whole or not at all: an error from r, or a crash, leaves nothing visible.
	// The object must be in the given generation (or Absent); ErrPrecondition otherwise.
	Put(ctx context.Context, key string, size int64, r io.Reader, generation string) (Info, error)
	// Get reads n bytes from off; all of the object from off if n < 0.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, Info, error)
	Stat(ctx context.Context, key string) (Info, error)
	// List yields the objects whose keys begin with prefix, sorted by key.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes an object that is in the given generation; ErrPrecondition if it is in another, ErrNotFound if it is gone.
	Delete(ctx context.Context, key, generation string) error
	// RemoveLeftovers removes what writers that died have left behind and what no listing shows.
	RemoveLeftovers(ctx context.Context) error
	Close() error
}
