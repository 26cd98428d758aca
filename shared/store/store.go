// Package store keeps snapshots: content-addressed blobs, and refs that name manifests. A snapshot exists only when
// its ref does, and its ref is written last. docs/format.md states the layout exactly.
package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store/internal/dir"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// DefaultDir is the address of a node's store that was not told of another.
const DefaultDir = "/var/lib/criu-docker/store"

// Sentinels that callers branch on; implementations wrap them with the store's address and the key.
var (
	ErrNotFound = errors.New("not found in the store")
	// ErrNoStore: there is no store at the address, so that nothing is known about what it should hold. A first
	// publication makes one in a directory; a bucket must be there.
	ErrNoStore = object.ErrNoStore
	// ErrUntrusted: others than root and this user may write to the store's directory.
	ErrUntrusted = dir.ErrUntrusted
	ErrConflict  = errors.New("changed in the store by another writer")
	ErrCorrupt   = snapshot.ErrCorrupt
)

// Store is a place where snapshots live. Implementations are safe for concurrent use, by goroutines and by processes
// on different machines.
type Store interface {
	// URL is the address that Open was called with, without trailing slashes.
	URL() string

	// PutBlob stores size bytes of r under desc.Digest, checking digest and size on the way; the blob appears whole or
	// not at all. A blob that is there already is not written again: existed is true and r may be left unread.
	PutBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (existed bool, err error)
	// OpenBlob reads a whole blob; the returned reader fails with ErrCorrupt at its end, or before, if the content is not
	// what the descriptor says. ErrNotFound if there is none.
	OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// ReadBlobAt reads n bytes at off, unchecked: the caller verifies what it makes of them.
	ReadBlobAt(ctx context.Context, dgst digest.Digest, off, n int64) (io.ReadCloser, error)
	// StatBlob returns a blob's size in bytes; ErrNotFound if there is none.
	StatBlob(ctx context.Context, dgst digest.Digest) (int64, error)

	// PutRef points name at a manifest. previous is the generation it must have now ("" means that it must not exist);
	// ErrConflict otherwise, unless it points at this manifest already. It fails with ErrConflict as well, having written
	// nothing, when one of this Store's publications was interrupted for so long that a sweep may have taken its blobs.
	PutRef(ctx context.Context, name string, manifest ocispec.Descriptor, previous string) error
	// GetRef returns what name points at; ErrNotFound if it does not exist. One that can't be read is ErrCorrupt, with an entry
	// that is good for DeleteRef.
	GetRef(ctx context.Context, name string) (Entry, error)
	// ListRefs returns the refs whose names begin with prefix, sorted by name. If some of them can't be read it returns the
	// others, with an ErrCorrupt that names each of those.
	ListRefs(ctx context.Context, prefix string) ([]Entry, error)
	// DeleteRef removes a ref that still has the given generation; ErrConflict otherwise, ErrNotFound if it is gone.
	DeleteRef(ctx context.Context, name, generation string) error
	// Sweep removes the blobs that no ref leads to. It never removes a blob of a publication that is under way:
	// when one is, it removes nothing and reports busy.
	Sweep(ctx context.Context) (Swept, error)
	// Publishing marks the beginning of a publication; the returned function marks its end. Between the two no blob is swept.
	Publishing(ctx context.Context) (done func(), err error)
	Close() error
}

// Entry is one ref.
type Entry struct {
	Name       string
	Manifest   ocispec.Descriptor
	Generation string // opaque; changes with every write
	Updated    time.Time
}

// Swept says what a sweep did.
type Swept struct {
	Blobs int
	Bytes int64
	Busy  bool // a publication was under way; nothing was removed
}
