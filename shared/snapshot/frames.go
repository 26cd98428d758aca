package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// frame is a piece of a page image that is compressed for itself, so that frames are fetched, checked and decompressed in
// parallel, and shared between snapshots that hold the same memory.
type frame struct {
	file   string
	offset int64 // bytes
	length int64 // bytes, at most FrameSize
	layer  ocispec.Descriptor
}

// cutFrames cuts page images at multiples of FrameSize.
func cutFrames(pages []file) []frame {
	var frames []frame
	for _, p := range pages {
		for off := int64(0); off < p.size; off += FrameSize {
			frames = append(frames, frame{file: p.name, offset: off, length: min(FrameSize, p.size-off)})
		}
	}
	return frames
}

// packFrame compresses one frame and stores it.
func packFrame(ctx context.Context, dst BlobWriter, dir string, f frame) (ocispec.Descriptor, error) {
	raw, packed := getBuffer(), getBuffer()
	defer putBuffer(raw)
	defer putBuffer(packed)
	src, err := os.Open(filepath.Join(dir, f.file))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pages: %w", err)
	}
	defer src.Close()
	b := raw.b[:f.length]
	if _, err := src.ReadAt(b, f.offset); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return ocispec.Descriptor{}, fmt.Errorf("pages: reading %d bytes of %s at %d: %w", f.length, src.Name(), f.offset, err)
	}
	packed.b = frameEncoder().EncodeAll(b, packed.b[:0])
	layer := ocispec.Descriptor{
		MediaType: MediaTypePages,
		Digest:    digest.FromBytes(packed.b),
		Size:      int64(len(packed.b)),
		Annotations: map[string]string{
			AnnotationFile:   f.file,
			AnnotationOffset: strconv.FormatInt(f.offset, 10),
			AnnotationLength: strconv.FormatInt(f.length, 10),
		},
	}
	if _, err := dst.PutBlob(ctx, layer, bytes.NewReader(packed.b)); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pages: %s at %d: %w", f.file, f.offset, err)
	}
	return layer, nil
}

// readFrame fetches, checks and decompresses one frame. The bytes are good until release is called, which must be done
// whatever is returned.
func readFrame(ctx context.Context, src BlobReader, f frame) (b []byte, release func(), err error) {
	raw, packed := getBuffer(), getBuffer()
	defer putBuffer(packed)
	release = func() { putBuffer(raw) }
	rc, err := src.OpenBlob(ctx, f.layer)
	if err != nil {
		return nil, release, err
	}
	defer rc.Close()
	compressed := bytes.NewBuffer(packed.b[:0])
	_, err = compressed.ReadFrom(rc) // to its end, where the digest is checked
	packed.b = compressed.Bytes()
	if err != nil {
		return nil, release, err
	}
	// The decoder never writes beyond the capacity: a frame that holds more than it declared fails.
	b, err = frameDecoder().DecodeAll(packed.b, raw.b[:0:f.length])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return nil, release, fmt.Errorf("%w: frame of %s at %d has more than the %d bytes that it declares", ErrCorrupt, f.file, f.offset, f.length)
	case err != nil:
		return nil, release, fmt.Errorf("%w: frame of %s at %d: %v", ErrCorrupt, f.file, f.offset, err) //nolint:errorlint // one sentinel is enough
	case int64(len(b)) != f.length:
		return nil, release, fmt.Errorf("%w: frame of %s at %d has %d bytes, not the %d that it declares", ErrCorrupt, f.file, f.offset, len(b), f.length)
	}
	return b, release, nil
}

// parseFrame reads a frame's place from its layer's annotations.
func parseFrame(layer ocispec.Descriptor) (frame, error) {
	f := frame{file: layer.Annotations[AnnotationFile], layer: layer}
	if err := checkName(f.file); err != nil {
		return f, fmt.Errorf("%w: layer %s: annotation %s: %v", ErrCorrupt, layer.Digest, AnnotationFile, err) //nolint:errorlint // one sentinel is enough
	}
	var err error
	if f.offset, err = annotatedInt(layer, AnnotationOffset); err != nil {
		return f, err
	}
	if f.length, err = annotatedInt(layer, AnnotationLength); err != nil {
		return f, err
	}
	switch {
	case f.offset%PageSize != 0:
		return f, fmt.Errorf("%w: layer %s: offset %d is not at a page boundary", ErrCorrupt, layer.Digest, f.offset)
	case f.length == 0 || f.length > FrameSize:
		return f, fmt.Errorf("%w: layer %s: length %d is not between 1 and %d", ErrCorrupt, layer.Digest, f.length, FrameSize)
	case layer.Size > maxPacked:
		return f, fmt.Errorf("%w: layer %s: %d bytes are more than a frame can have", ErrCorrupt, layer.Digest, layer.Size)
	}
	return f, nil
}

// maxPacked bounds a compressed frame: what zstd makes of incompressible bytes is hardly longer than these.
const maxPacked = FrameSize + FrameSize/64

// buffer holds one frame, compressed or not.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &buffer{make([]byte, 0, maxPacked+bytes.MinRead)} }}

func getBuffer() *buffer {
	b := buffers.Get().(*buffer) //nolint:forcetypeassert // the pool holds nothing else
	b.b = b.b[:0]
	return b
}

func putBuffer(b *buffer) { buffers.Put(b) }

// frameWindow is zstd's window of a frame that is written; readers accept FrameSize. Every encoder keeps one.
const frameWindow = 1 << 20

// frameEncoder is shared by all goroutines. The fastest level decompresses no slower than others, and the checksum is left
// to the blob's digest.
var frameEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(inFlight()), zstd.WithWindowSize(frameWindow), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // constant options
	}
	return e
})

var frameDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(inFlight()), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(FrameSize), zstd.WithDecoderMaxMemory(FrameSize))
	if err != nil {
		panic(err) // constant options
	}
	return d
})
