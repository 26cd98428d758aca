package snapshot

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BlobWriter is where Pack puts blobs; store.Store is one.
type BlobWriter interface {
	PutBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (existed bool, err error)
}

// BlobReader is where Load, Verify and Unpack take blobs from; store.Store is one.
type BlobReader interface {
	OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Source is what Pack makes a snapshot of.
type Source struct {
	CheckpointDir string // CRIU's images, flat
	RootfsTar     string // uncompressed OCI layer; "" if the donor changed nothing
	Config        Config // Sizes are filled in by Pack
	// Progress, if set, is told of the uncompressed bytes packed so far and in total; it must not block.
	Progress func(done, total int64)
}

// Pack writes the blobs of a snapshot and its manifest, in parallel and with bounded memory, and returns the manifest's
// descriptor and the completed config. Naming the snapshot (store.PutRef) is the caller's.
func Pack(ctx context.Context, dst BlobWriter, src Source) (ocispec.Descriptor, Config, error) {
	panic("not yet")
}

// Load reads a snapshot's manifest and config.
func Load(ctx context.Context, src BlobReader, manifest ocispec.Descriptor) (ocispec.Manifest, Config, error) {
	panic("not yet")
}

// Verify reads every blob of a snapshot and reports the first that is missing or not what its digest says.
func Verify(ctx context.Context, src BlobReader, manifest ocispec.Descriptor) error {
	panic("not yet")
}

// Unpack writes a snapshot's files to dir (checkpoint/ and, if there is one, rootfs.tar), in parallel and with
// bounded memory. On error dir holds an unfinished snapshot that the caller discards.
func Unpack(ctx context.Context, src BlobReader, manifest ocispec.Descriptor, dir string, progress func(done, total int64)) (Config, error) {
	panic("not yet")
}
