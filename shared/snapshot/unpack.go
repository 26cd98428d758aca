package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Names in a directory that Unpack has filled.
const (
	CheckpointName = "checkpoint" // directory of CRIU's images
	RootfsName     = "rootfs.tar" // container-layer delta, absent if the donor changed nothing
)

// Unpack writes the files of a snapshot that Load has read to dir (checkpoint/ and, if there is one, rootfs.tar), in
// parallel and with bounded memory. On error dir holds an unfinished snapshot that the caller discards. Nothing is synced
// to disk: the caller knows whether it must be.
func Unpack(ctx context.Context, src BlobReader, m ocispec.Manifest, cfg Config, dir string) error {
	plan, err := planUnpack(m, cfg)
	if err == nil {
		err = plan.run(ctx, src, dir)
	}
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	return nil
}

// readsInFlight is how many layers are read at a time, each with at most a frame and its compressed form in memory. They
// wait for the store most of the time, so that it doesn't depend on the processors.
const readsInFlight = 8

// plan is what a manifest, found sound, asks to be written.
type plan struct {
	files      ocispec.Descriptor
	filesBytes int64               // that the files layer's files have together
	rootfs     *ocispec.Descriptor // nil if the donor changed nothing
	frames     []frame             // by file and offset, without gaps
}

// planUnpack checks that the layers make up one whole checkpoint, before anything is written.
func planUnpack(m ocispec.Manifest, cfg Config) (plan, error) {
	p := plan{filesBytes: cfg.Sizes.Checkpoint}
	for _, l := range m.Layers {
		switch l.MediaType {
		case MediaTypeFiles:
			if p.files.Digest != "" {
				return p, fmt.Errorf("%w: it has more than one layer of type %s", ErrCorrupt, l.MediaType)
			}
			p.files = l
		case MediaTypeRootfs:
			if p.rootfs != nil {
				return p, fmt.Errorf("%w: it has more than one layer of type %s", ErrCorrupt, l.MediaType)
			}
			p.rootfs = &l
		case MediaTypePages:
			f, err := parseFrame(l)
			if err != nil {
				return p, err
			}
			p.frames = append(p.frames, f)
		default:
			if l.Annotations[AnnotationOptional] != "true" {
				return p, fmt.Errorf("layer %s has type %q, which this version of criu-docker does not know: update it", l.Digest, l.MediaType)
			}
		}
	}
	if p.files.Digest == "" {
		return p, fmt.Errorf("%w: it has no layer of type %s", ErrCorrupt, MediaTypeFiles)
	}
	return p, p.check(cfg)
}

// check compares the layers with each other and with the config's sizes.
func (p *plan) check(cfg Config) error {
	slices.SortFunc(p.frames, func(a, b frame) int {
		return cmp.Or(strings.Compare(a.file, b.file), cmp.Compare(a.offset, b.offset))
	})
	var memory, next int64
	var name string
	for _, f := range p.frames {
		if f.file != name {
			name, next = f.file, 0
		}
		switch {
		case f.offset > next:
			return fmt.Errorf("%w: %s: no frame holds its bytes from %d to %d", ErrCorrupt, name, next, f.offset)
		case f.offset < next:
			return fmt.Errorf("%w: %s: more than one frame holds its bytes from %d on", ErrCorrupt, name, f.offset)
		}
		next += f.length
		memory += f.length
	}
	if memory != cfg.Sizes.Memory {
		return fmt.Errorf("%w: its frames have %d bytes together, not the %d that the config says", ErrCorrupt, memory, cfg.Sizes.Memory)
	}
	var rootfs int64
	if p.rootfs != nil {
		var err error
		if rootfs, err = annotatedInt(*p.rootfs, AnnotationLength); err != nil {
			return err
		}
	}
	if rootfs != cfg.Sizes.Rootfs {
		return fmt.Errorf("%w: its container-layer delta has %d bytes, not the %d that the config says", ErrCorrupt, rootfs, cfg.Sizes.Rootfs)
	}
	return nil
}

// run writes everything below dir.
func (p *plan) run(ctx context.Context, src BlobReader, dir string) error {
	checkpoint := filepath.Join(dir, CheckpointName)
	if err := os.MkdirAll(checkpoint, 0o700); err != nil {
		return err
	}
	pages, err := createPages(checkpoint, p.frames)
	defer pages.close()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	g.Go(func() error {
		return inLayer(p.files, readFilesLayer(gctx, src, p.files, p.filesBytes, newFiles{checkpoint}))
	})
	if p.rootfs != nil {
		g.Go(func() error {
			return inLayer(*p.rootfs, writeRootfs(gctx, src, *p.rootfs, filepath.Join(dir, RootfsName)))
		})
	}
	for _, f := range p.frames {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			b, release, err := readFrame(gctx, src, f)
			defer release()
			if err == nil {
				err = pages.write(f, b)
			}
			return inLayer(f.layer, err)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return pages.close()
}

// pageFiles are the page images that frames are written to.
type pageFiles map[string]*os.File

// createPages creates the page images in their full length.
func createPages(dir string, frames []frame) (pageFiles, error) {
	files := pageFiles{}
	for i, f := range frames {
		if i+1 < len(frames) && frames[i+1].file == f.file {
			continue // not its last frame
		}
		w, err := createFile(dir, f.file)
		if err != nil {
			return files, err
		}
		files[f.file] = w
		if err := w.Truncate(f.offset + f.length); err != nil {
			return files, err
		}
	}
	return files, nil
}

// write writes a frame, and lets the kernel begin to bring it to the disk: a caller that syncs will find little to do.
func (p pageFiles) write(f frame, b []byte) error {
	w := p[f.file]
	if _, err := w.WriteAt(b, f.offset); err != nil {
		return err
	}
	err := unix.SyncFileRange(int(w.Fd()), f.offset, f.length, unix.SYNC_FILE_RANGE_WRITE)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		return nil // not with this file system
	}
	return err
}

// close closes the files that are still open.
func (p pageFiles) close() error {
	var errs []error
	for name, f := range p {
		errs = append(errs, f.Close())
		delete(p, name)
	}
	return errors.Join(errs...)
}

// newFiles is a fileSink that creates files in a directory.
type newFiles struct{ dir string }

func (n newFiles) create(name string) (io.WriteCloser, error) {
	f, err := createFile(n.dir, name)
	if err != nil {
		return nil, err // not a nil *os.File in an interface
	}
	return f, nil
}

func writeRootfs(ctx context.Context, src BlobReader, layer ocispec.Descriptor, path string) error {
	f, err := createFile(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return err
	}
	return errors.Join(readRootfsLayer(ctx, src, layer, f), f.Close())
}

// createFile creates a file that must not exist: a second one of that name means a snapshot that contradicts itself.
func createFile(dir, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: it holds %s twice, or the directory was not empty", ErrCorrupt, name)
	}
	return f, err
}

func inLayer(layer ocispec.Descriptor, err error) error {
	if err != nil {
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	return nil
}
