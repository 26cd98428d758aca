package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Frame is a part of a page image that is compressed for itself, so that frames are fetched, checked and decompressed in
// parallel and in any order.
type Frame struct {
	File    string   // name of the page image
	Extents []Extent // of it, one after the other in the frame
	First   bool     // a clone needs it before it can answer
	Layer   ocispec.Descriptor
}

// Length is how many bytes the frame has when it is decompressed.
func (f Frame) Length() (n int64) {
	for _, e := range f.Extents {
		n += e.Length
	}
	return n
}

// Frames returns the page frames of a snapshot in the manifest's order, which is the order in which a clone needs those
// that are First. They make up whole page images: every page is in exactly one of them.
func Frames(m ocispec.Manifest) ([]Frame, error) {
	var frames []Frame
	for _, l := range m.Layers {
		if l.MediaType != MediaTypePages {
			continue
		}
		f, err := parseFrame(l)
		if err != nil {
			return nil, inLayer(l, fmt.Errorf("%w: %w", ErrCorrupt, err))
		}
		frames = append(frames, f)
	}
	return frames, checkFrames(frames)
}

// ReadFrame fetches, checks and decompresses one frame. The bytes are good until release is called, which must be done
// whatever is returned.
func ReadFrame(ctx context.Context, src BlobReader, f Frame) (b []byte, release func(), err error) {
	raw := getBuffer()
	release = func() { putBuffer(raw) }
	b, err = readFrame(ctx, src, f, raw.b)
	return b, release, inLayer(f.Layer, err)
}

// WriteFrame writes what ReadFrame returned to the frame's page image in dir, which is there in its full length.
func WriteFrame(dir string, f Frame, b []byte) error {
	w, err := os.OpenFile(filepath.Join(dir, f.File), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(writeExtents(w, f, b), w.Close())
}

func writeExtents(w *os.File, f Frame, b []byte) error {
	for _, e := range f.Extents {
		if _, err := w.WriteAt(b[:e.Length], e.Offset); err != nil {
			return err
		}
		b = b[e.Length:]
	}
	if f.First {
		return nil // a start waits for it, and not for the disk
	}
	// The kernel may begin to bring it to the disk: a caller that syncs will find little to do.
	start, end := f.bounds()
	err := unix.SyncFileRange(int(w.Fd()), start, end-start, unix.SYNC_FILE_RANGE_WRITE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil // not with this file system
	}
	return err
}

// bounds is the part of the page image that all extents lie in.
func (f Frame) bounds() (start, end int64) {
	start = f.Extents[0].Offset
	for _, e := range f.Extents {
		start, end = min(start, e.Offset), max(end, e.End())
	}
	return start, end
}

// packFrame compresses one frame and stores it.
func packFrame(ctx context.Context, dst BlobWriter, dir string, f Frame) (ocispec.Descriptor, error) {
	raw, packed := getBuffer(), getBuffer()
	defer putBuffer(raw)
	defer putBuffer(packed)
	b, err := readExtents(dir, f, raw.b)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pages: %w", err)
	}
	packed.b = frameEncoder().EncodeAll(b, packed.b[:0])
	layer := ocispec.Descriptor{
		MediaType: MediaTypePages,
		Digest:    digest.FromBytes(packed.b),
		Size:      int64(len(packed.b)),
		Annotations: map[string]string{
			AnnotationFile:    f.File,
			AnnotationExtents: formatExtents(f.Extents),
			AnnotationLength:  strconv.Itoa(len(b)),
		},
	}
	if f.First {
		layer.Annotations[AnnotationFirst] = "true"
	}
	if _, err := dst.PutBlob(ctx, layer, bytes.NewReader(packed.b)); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("pages: %s at %d: %w", f.File, f.Extents[0].Offset, err)
	}
	return layer, nil
}

// readExtents appends the frame's bytes to b, which has room for them.
func readExtents(dir string, f Frame, b []byte) ([]byte, error) {
	src, err := os.Open(filepath.Join(dir, f.File))
	if err != nil {
		return nil, err
	}
	defer src.Close()
	for _, e := range f.Extents {
		n := len(b)
		b = b[:n+int(e.Length)]
		if _, err := src.ReadAt(b[n:], e.Offset); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("reading %d bytes of %s at %d: %w", e.Length, src.Name(), e.Offset, err)
		}
	}
	return b, nil
}

// readFrame decompresses a frame to raw, which has room for it.
func readFrame(ctx context.Context, src BlobReader, f Frame, raw []byte) ([]byte, error) {
	packed := getBuffer()
	defer putBuffer(packed)
	rc, err := src.OpenBlob(ctx, f.Layer)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	compressed := bytes.NewBuffer(packed.b)
	_, err = compressed.ReadFrom(rc) // to its end, where the digest is checked
	packed.b = compressed.Bytes()
	if err != nil {
		return nil, err
	}
	// The decoder never writes beyond the capacity: a frame that holds more than it declared fails.
	length := f.Length()
	b, err := frameDecoder().DecodeAll(packed.b, raw[:0:length])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return nil, fmt.Errorf("%w: frame of %s has more than the %d bytes that it declares", ErrCorrupt, f.File, length)
	case err != nil:
		return nil, fmt.Errorf("%w: frame of %s: %v", ErrCorrupt, f.File, err) //nolint:errorlint // one sentinel is enough
	case int64(len(b)) != length:
		return nil, fmt.Errorf("%w: frame of %s has %d bytes, not the %d that it declares", ErrCorrupt, f.File, len(b), length)
	}
	return b, nil
}

// parseFrame reads what a frame holds from its layer's annotations.
func parseFrame(layer ocispec.Descriptor) (Frame, error) {
	f := Frame{File: layer.Annotations[AnnotationFile], First: layer.Annotations[AnnotationFirst] == "true", Layer: layer}
	if err := checkName(f.File); err != nil {
		return f, fmt.Errorf("annotation %s: %w", AnnotationFile, err)
	}
	var err error
	if f.Extents, err = parseExtents(layer.Annotations[AnnotationExtents]); err != nil {
		return f, fmt.Errorf("annotation %s: %w", AnnotationExtents, err)
	}
	if length := layer.Annotations[AnnotationLength]; length != strconv.FormatInt(f.Length(), 10) {
		return f, fmt.Errorf("annotation %s is %q, and its extents have %d bytes", AnnotationLength, length, f.Length())
	}
	if layer.Size > maxPacked {
		return f, fmt.Errorf("%d bytes are more than a frame can have", layer.Size)
	}
	return f, nil
}

// checkFrames makes sure that every page of a page image is in exactly one frame.
func checkFrames(frames []Frame) error {
	type placed struct {
		Extent
		in *Frame
	}
	var all []placed
	for i := range frames {
		for _, e := range frames[i].Extents {
			all = append(all, placed{e, &frames[i]})
		}
	}
	slices.SortFunc(all, func(a, b placed) int {
		return cmp.Or(strings.Compare(a.in.File, b.in.File), cmp.Compare(a.Offset, b.Offset))
	})
	var name string
	var next int64
	for _, e := range all {
		if e.in.File != name {
			name, next = e.in.File, 0
		}
		switch {
		case e.Offset > next:
			return inLayer(e.in.Layer, fmt.Errorf("%w: %s: no frame holds its bytes from %d to %d", ErrCorrupt, name, next, e.Offset))
		case e.Offset < next:
			return inLayer(e.in.Layer, fmt.Errorf("%w: %s: its bytes from %d on are held twice", ErrCorrupt, name, e.Offset))
		}
		next = e.End()
	}
	return nil
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

// frameEncoder is shared by all goroutines. Its level is the strongest of those that need neither much time nor much
// memory. Redmine's memory (152 MB, a quarter of it in small frames), two processors:
//
//	level    packed   pack    unpack
//	fastest  35.2 MB  0.23 s  61 ms
//	default  33.4 MB  0.28 s  52 ms
//	better   32.4 MB  0.40 s  50 ms
//	best     30.2 MB  2.6 s   50 ms, and 30 MiB more for each goroutine
//
// A window of 4 MiB saves 0.5 % more, and costs 3 MiB for each goroutine. Pages of zeros, 0.2 %, are left to zstd. The
// checksum is left to the blob's digest.
var frameEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderCRC(false),
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
