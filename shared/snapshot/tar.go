package snapshot

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/internal/reader"
	"github.com/criu-docker/criu-docker/shared/mountfiles"
)

const tarWindow = 8 << 20 // bytes; zstd window of the tar layers, and so what a reader must have for each

// packFiles stores all files of the checkpoint but the page images as one layer. Owners, modes and times are left out:
// they say nothing about the frozen process.
func packFiles(ctx context.Context, dst BlobWriter, tempDir, dir string, files []file, p *progress) (ocispec.Descriptor, error) {
	return packTar(ctx, dst, tempDir, MediaTypeFiles, func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for _, f := range files {
			if err := tarFile(ctx, tw, dir, f, p); err != nil {
				return err
			}
		}
		return tw.Close()
	})
}

func tarFile(ctx context.Context, tw *tar.Writer, dir string, f file, p *progress) error {
	src, err := os.Open(filepath.Join(dir, f.name))
	if err != nil {
		return err
	}
	defer src.Close()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: f.size, Mode: 0o600, Format: tar.FormatPAX}); err != nil {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	n, err := io.Copy(tw, io.TeeReader(reader.WithContext(ctx, io.LimitReader(src, f.size)), p))
	if err == nil && n != f.size {
		err = fmt.Errorf("it shrank to %d of %d bytes while it was packed", n, f.size)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", src.Name(), err)
	}
	return nil
}

// packAsIs stores an archive as it is: the container-layer delta, or the files of mounts.
func packAsIs(ctx context.Context, dst BlobWriter, tempDir, mediaType, path string, p *progress) (ocispec.Descriptor, error) {
	return packTar(ctx, dst, tempDir, mediaType, func(w io.Writer) error {
		src, err := os.Open(path)
		if err != nil {
			return err
		}
		defer src.Close()
		_, err = io.Copy(w, io.TeeReader(reader.WithContext(ctx, src), p))
		return err
	})
}

// packTar compresses what write produces and stores it. A blob's digest must be known before it is stored, and its size is
// not bounded: so it goes through a temporary file, which has no name and thus can't be left behind.
func packTar(ctx context.Context, dst BlobWriter, tempDir, mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	layer, err := spoolTar(ctx, dst, tempDir, mediaType, write)
	if err != nil {
		return layer, fmt.Errorf("%s: %w", mediaType, err)
	}
	return layer, nil
}

func spoolTar(ctx context.Context, dst BlobWriter, tempDir, mediaType string, write func(io.Writer) error) (ocispec.Descriptor, error) {
	tmp, err := os.CreateTemp(tempDir, "criu-docker-layer-")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer tmp.Close()
	if err := os.Remove(tmp.Name()); err != nil {
		return ocispec.Descriptor{}, err
	}
	digester := digest.SHA256.Digester()
	packed := &counter{w: io.MultiWriter(tmp, digester.Hash())}
	enc, err := zstd.NewWriter(packed, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(tarWindow), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	raw := &counter{w: enc}
	if err := errors.Join(write(raw), enc.Close()); err != nil {
		return ocispec.Descriptor{}, err
	}
	layer := ocispec.Descriptor{
		MediaType:   mediaType,
		Digest:      digester.Digest(),
		Size:        packed.n,
		Annotations: map[string]string{AnnotationLength: strconv.FormatInt(raw.n, 10)},
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return ocispec.Descriptor{}, err
	}
	_, err = dst.PutBlob(ctx, layer, tmp)
	return layer, err
}

// fileSink takes the files of a checkpoint.
type fileSink interface {
	create(name string) (io.WriteCloser, error)
}

// discardFiles is a fileSink that keeps nothing.
type discardFiles struct{}

func (discardFiles) create(string) (io.WriteCloser, error) { return discard{}, nil }

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// readFilesLayer unpacks the files layer; its files have want bytes together.
func readFilesLayer(ctx context.Context, src BlobReader, layer ocispec.Descriptor, want int64, dst fileSink) error {
	return readTar(ctx, src, layer, func(r io.Reader) error {
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return corruptTar(err)
			}
			// Sizes are checked before a byte is read: a sparse entry may claim any.
			if want -= h.Size; want < 0 {
				return fmt.Errorf("%w: its files have more bytes than the config says", ErrCorrupt)
			}
			if err := readFile(tr, h, dst); err != nil {
				return err
			}
		}
		if want != 0 {
			return fmt.Errorf("%w: its files have %d bytes less than the config says", ErrCorrupt, want)
		}
		return nil
	})
}

func readFile(tr *tar.Reader, h *tar.Header, dst fileSink) error {
	if err := checkName(h.Name); err != nil || h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%w: it holds %q of type %q, and not only plain files", ErrCorrupt, h.Name, h.Typeflag)
	}
	w, err := dst.create(h.Name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, tarErrors{tr}); err != nil {
		w.Close()
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return w.Close()
}

// readRootfsLayer writes the container-layer delta's tar to w.
func readRootfsLayer(ctx context.Context, src BlobReader, layer ocispec.Descriptor, w io.Writer) error {
	return readTar(ctx, src, layer, func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// readMountFiles writes the archive of the files of mounts to w, and checks it.
func readMountFiles(ctx context.Context, src BlobReader, layer ocispec.Descriptor, w io.Writer) error {
	return readTar(ctx, src, layer, func(r io.Reader) error {
		copied := io.TeeReader(r, w)
		err := mountfiles.Read(copied, func(mountfiles.Entry, io.Reader) error { return nil })
		if errors.Is(err, mountfiles.ErrDamaged) {
			return corruptTar(err)
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, copied) // what follows the end of the archive
		return err
	})
}

// readTar gives read the decompressed bytes of a layer, not more than it declares, and checks all of it.
func readTar(ctx context.Context, src BlobReader, layer ocispec.Descriptor, read func(io.Reader) error) error {
	length, err := annotatedInt(layer, AnnotationLength)
	if err != nil {
		return err
	}
	rc, err := src.OpenBlob(ctx, layer)
	if err != nil {
		return err
	}
	defer rc.Close()
	packed := &reader.Keeper{R: bufio.NewReaderSize(rc, 1<<20)}
	dec, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(tarWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer dec.Close()
	raw := &bounded{r: reader.WithContext(ctx, dec), left: length}
	err = read(raw)
	if err == nil {
		_, err = io.Copy(io.Discard, raw) // padding after tar's end
	}
	if err == nil {
		_, err = io.Copy(io.Discard, packed) // to its end, where the digest is checked
	}
	switch {
	case packed.Err != nil:
		return packed.Err // the cause of what the decoder then said
	case err != nil:
		return err
	case raw.left != 0:
		return fmt.Errorf("%w: it ends %d bytes before the length that it declares", ErrCorrupt, raw.left)
	}
	return nil
}

// checkName refuses file names that are not plain names.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is not a plain file name", name)
	}
	return nil
}

func corruptTar(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %v", ErrCorrupt, err) //nolint:errorlint // one sentinel is enough
}

// counter counts the bytes written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// bounded fails when there is more than was declared, and marks what the decoder complains about as corruption.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: it has more bytes than the length that it declares", ErrCorrupt)
	}
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		err = corruptTar(err)
	}
	return n, err
}

// tarErrors marks errors of reading an entry as corruption, apart from those of writing it.
type tarErrors struct{ r io.Reader }

func (t tarErrors) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		err = corruptTar(err)
	}
	return n, err
}
