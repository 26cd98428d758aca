package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/mountfiles"
)

// Names in a directory that Unpack has filled.
const (
	CheckpointName = "checkpoint" // directory of CRIU's images
	RootfsName     = "rootfs.tar" // container-layer delta, absent if the donor changed nothing
	MountFilesName = "mounts.tar" // files of mounts, absent if there are none
)

// Unpack writes the files of a snapshot that Load has read to dir (checkpoint/ and, if they are there, rootfs.tar and mounts.tar), in
// parallel and with bounded memory. On error dir holds an unfinished snapshot that the caller discards. Nothing is synced
// to disk: the caller knows whether it must be.
func Unpack(ctx context.Context, src BlobReader, m ocispec.Manifest, cfg Config, dir string) error {
	plan, err := planUnpack(m, cfg)
	if err == nil {
		err = plan.run(ctx, src, dir, plan.frames)
	}
	if err != nil {
		return fmt.Errorf("unpacking: %w", err)
	}
	return nil
}

// UnpackFiles does what Unpack does, but for the memory: page images have their full length, and hold nothing until
// WriteFrame writes what ReadFrame reads of each of Frames.
func UnpackFiles(ctx context.Context, src BlobReader, m ocispec.Manifest, cfg Config, dir string) error {
	plan, err := planUnpack(m, cfg)
	if err == nil {
		err = plan.run(ctx, src, dir, nil)
	}
	if err != nil {
		return fmt.Errorf("unpacking all but the memory: %w", err)
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
	mountFiles *ocispec.Descriptor // nil if there are none
	frames     []Frame             // whole page images
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
		case MediaTypeMountFiles:
			if p.mountFiles != nil {
				return p, fmt.Errorf("%w: it has more than one layer of type %s", ErrCorrupt, l.MediaType)
			}
			p.mountFiles = &l
		case MediaTypePages: // see Frames
		default:
			if l.Annotations[AnnotationOptional] != "true" {
				return p, fmt.Errorf("layer %s has type %q, which this version of criu-docker does not know: update it, or build the snapshot anew",
					l.Digest, l.MediaType)
			}
		}
	}
	if p.files.Digest == "" {
		return p, fmt.Errorf("%w: it has no layer of type %s", ErrCorrupt, MediaTypeFiles)
	}
	var err error
	if p.frames, err = Frames(m); err != nil {
		return p, err
	}
	return p, p.check(cfg)
}

// check compares the layers with the config's sizes.
func (p *plan) check(cfg Config) error {
	var memory int64
	for _, f := range p.frames {
		memory += f.Length()
	}
	if memory != cfg.Sizes.Memory {
		return fmt.Errorf("%w: its frames have %d bytes together, not the %d that the config says", ErrCorrupt, memory, cfg.Sizes.Memory)
	}
	if err := checkLength(p.rootfs, "container-layer delta has", cfg.Sizes.Rootfs); err != nil {
		return err
	}
	if cfg.Sizes.MountFiles > mountfiles.MaxLength {
		return fmt.Errorf("%w: its files of mounts have %d bytes, and at most %d make sense", ErrCorrupt, cfg.Sizes.MountFiles, mountfiles.MaxLength)
	}
	return checkLength(p.mountFiles, "files of mounts have", cfg.Sizes.MountFiles)
}

// checkLength compares the length of a layer, which need not be there, with what the config says.
func checkLength(layer *ocispec.Descriptor, has string, want int64) (err error) {
	length := int64(0)
	if layer != nil {
		if length, err = annotatedInt(*layer, AnnotationLength); err != nil {
			return err
		}
	}
	if length != want {
		return fmt.Errorf("%w: its %s %d bytes, not the %d that the config says", ErrCorrupt, has, length, want)
	}
	return nil
}

// run writes everything below dir, but of the memory only the given frames.
func (p *plan) run(ctx context.Context, src BlobReader, dir string, frames []Frame) error {
	checkpoint := filepath.Join(dir, CheckpointName)
	if err := os.MkdirAll(checkpoint, 0o700); err != nil {
		return err
	}
	if err := createPages(checkpoint, p.frames); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	g.Go(func() error {
		return inLayer(p.files, readFilesLayer(gctx, src, p.files, p.filesBytes, newFiles{checkpoint}))
	})
	if p.rootfs != nil {
		g.Go(func() error {
			return inLayer(*p.rootfs, writeArchive(gctx, src, *p.rootfs, filepath.Join(dir, RootfsName), readRootfsLayer))
		})
	}
	if p.mountFiles != nil {
		g.Go(func() error {
			return inLayer(*p.mountFiles, writeArchive(gctx, src, *p.mountFiles, filepath.Join(dir, MountFilesName), readMountFiles))
		})
	}
	for _, f := range frames {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			b, release, err := ReadFrame(gctx, src, f)
			defer release()
			if err != nil {
				return err
			}
			return WriteFrame(checkpoint, f, b)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// createPages creates the page images in their full length, as holes.
func createPages(dir string, frames []Frame) error {
	sizes := map[string]int64{}
	for _, f := range frames {
		_, end := f.bounds()
		sizes[f.File] = max(sizes[f.File], end)
	}
	for name, size := range sizes {
		w, err := createFile(dir, name)
		if err != nil {
			return err
		}
		if err := errors.Join(w.Truncate(size), w.Close()); err != nil {
			return err
		}
	}
	return nil
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

func writeArchive(ctx context.Context, src BlobReader, layer ocispec.Descriptor, path string,
	read func(context.Context, BlobReader, ocispec.Descriptor, io.Writer) error,
) error {
	f, err := createFile(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return err
	}
	return errors.Join(read(ctx, src, layer, f), f.Close())
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
