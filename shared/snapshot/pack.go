package snapshot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// BlobWriter is where Pack puts blobs; store.Store is one.
type BlobWriter interface {
	PutBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (existed bool, err error)
}

// BlobReader is where Load, Verify and Unpack take blobs from; store.Store is one. The reader that OpenBlob returns must
// check size and digest, as VerifyingReader does: nothing is checked twice.
type BlobReader interface {
	OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// Source is what Pack makes a snapshot of.
type Source struct {
	CheckpointDir string // CRIU's images, flat
	RootfsTar     string // uncompressed OCI layer; "" if the donor changed nothing
	MountFiles    string // archive of package mountfiles; "" if there is none
	Config        Config // Sizes are filled in by Pack
	// First is what a clone needs before it can answer, in this order. It is advice: it may overlap, and go beyond the
	// files.
	First []Range
	// TempDir takes the compressed layers until they are stored; "" means the system's. Nothing stays there.
	TempDir string
	// Progress, if set, is told of the uncompressed bytes packed so far and in total; it must not block. Calls may come
	// from several goroutines, but one at a time and never with less than before.
	Progress func(done, total int64)
}

// Pack writes the blobs of a snapshot and its manifest, in parallel and with bounded memory, and returns the manifest's
// descriptor and the completed config. Equal sources give equal snapshots. Naming the snapshot (store.PutRef) is the
// caller's.
func Pack(ctx context.Context, dst BlobWriter, src Source) (ocispec.Descriptor, Config, error) {
	desc, cfg, err := pack(ctx, dst, src)
	if err != nil {
		return ocispec.Descriptor{}, Config{}, fmt.Errorf("packing snapshot: %w", err)
	}
	return desc, cfg, nil
}

func pack(ctx context.Context, dst BlobWriter, src Source) (ocispec.Descriptor, Config, error) {
	cfg := src.Config
	cfg.Created = cfg.Created.UTC()
	files, pages, err := scanCheckpoint(src.CheckpointDir)
	if err != nil {
		return ocispec.Descriptor{}, cfg, err
	}
	frames := layFrames(pages, src.First)
	cfg.Sizes = Sizes{Memory: total(pages), Checkpoint: total(files)}
	if src.RootfsTar != "" {
		fi, err := os.Stat(src.RootfsTar)
		if err != nil {
			return ocispec.Descriptor{}, cfg, fmt.Errorf("container-layer delta: %w", err)
		}
		cfg.Sizes.Rootfs = fi.Size()
	}
	if src.MountFiles != "" {
		fi, err := os.Stat(src.MountFiles)
		if err != nil {
			return ocispec.Descriptor{}, cfg, fmt.Errorf("files of mounts: %w", err)
		}
		cfg.Sizes.MountFiles = fi.Size()
	}
	p := newProgress(src.Progress, cfg.Sizes.Unpacked())

	// One slot for each layer in the manifest's order, so that the order of completion does not matter.
	head, atMountFiles := 1, 1
	if src.RootfsTar != "" {
		head, atMountFiles = head+1, 2
	}
	if src.MountFiles != "" {
		head++
	}
	layers := make([]ocispec.Descriptor, head+len(frames))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight())
	g.Go(func() (err error) {
		layers[0], err = packFiles(gctx, dst, src.TempDir, src.CheckpointDir, files, p)
		return err
	})
	if src.RootfsTar != "" {
		g.Go(func() (err error) {
			layers[1], err = packAsIs(gctx, dst, src.TempDir, MediaTypeRootfs, src.RootfsTar, p)
			return err
		})
	}
	if src.MountFiles != "" {
		g.Go(func() (err error) {
			layers[atMountFiles], err = packAsIs(gctx, dst, src.TempDir, MediaTypeMountFiles, src.MountFiles, p)
			if err == nil {
				layers[atMountFiles].Annotations[AnnotationOptional] = "true"
			}
			return err
		})
	}
	for i, f := range frames {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() (err error) {
			layers[head+i], err = packFrame(gctx, dst, src.CheckpointDir, f)
			p.add(f.Length())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return ocispec.Descriptor{}, cfg, err
	}
	if err := context.Cause(ctx); err != nil {
		return ocispec.Descriptor{}, cfg, err
	}
	for _, l := range layers {
		cfg.Sizes.Packed += l.Size
	}

	config, err := putJSON(ctx, dst, MediaTypeConfig, MaxConfigSize, cfg)
	if err != nil {
		return ocispec.Descriptor{}, cfg, fmt.Errorf("config: %w", err)
	}
	manifest, err := putJSON(ctx, dst, ocispec.MediaTypeImageManifest, MaxManifestSize, newManifest(cfg, config, layers))
	if err != nil {
		return ocispec.Descriptor{}, cfg, fmt.Errorf("manifest: %w", err)
	}
	manifest.ArtifactType = ArtifactType
	return manifest, cfg, nil
}

// file is a file of the checkpoint directory.
type file struct {
	name string
	size int64 // bytes
}

// scanCheckpoint sorts a checkpoint directory into page images and the rest, both by name.
func scanCheckpoint(dir string) (files, pages []file, err error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint: %w", err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			return nil, nil, fmt.Errorf("checkpoint: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return nil, nil, fmt.Errorf("checkpoint: %s is a %s: a checkpoint has regular files only, no directories or links; "+
				"keep CRIU's work directory apart and dump without a parent image", filepath.Join(dir, e.Name()), kind(fi.Mode()))
		}
		f := file{e.Name(), fi.Size()}
		switch {
		case !isPages(f.name) || f.size == 0: // an empty one has nothing to cut
			files = append(files, f)
		case f.size%PageSize != 0:
			return nil, nil, fmt.Errorf("checkpoint: %s has %d bytes, which are not whole pages: the dump was cut off", filepath.Join(dir, f.name), f.size)
		default:
			pages = append(pages, f)
		}
	}
	if len(files)+len(pages) == 0 {
		return nil, nil, fmt.Errorf("checkpoint: %s is empty: CRIU has dumped nothing there", dir)
	}
	return files, pages, nil
}

// isPages tells page images, which are cut in frames, from CRIU's other files.
func isPages(name string) bool {
	return strings.HasPrefix(name, "pages-") && strings.HasSuffix(name, ".img")
}

func kind(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&os.ModeSymlink != 0:
		return "symbolic link"
	default:
		return "special file"
	}
}

func total(files []file) (n int64) {
	for _, f := range files {
		n += f.size
	}
	return n
}

// inFlight is how many layers are packed at a time, each with at most a frame and its compressed form in memory.
func inFlight() int {
	return max(2, min(runtime.GOMAXPROCS(0), 8))
}

// progress reports sums of bytes; it is shared by the workers.
type progress struct {
	report func(done, total int64)

	mu          sync.Mutex
	done, total int64
}

func newProgress(report func(done, total int64), total int64) *progress {
	return &progress{report: report, total: total}
}

func (p *progress) add(n int64) {
	if p.report == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.report(p.done, p.total)
}

// Write counts what passes through a writer or reader that is teed here.
func (p *progress) Write(b []byte) (int, error) {
	p.add(int64(len(b)))
	return len(b), nil
}
