package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// ErrCorrupt is wrapped by every error that says that stored content is not what its descriptor, or this format, says.
var ErrCorrupt = errors.New("content does not match its digest or size")

// VerifyingReader returns a reader of r that fails with ErrCorrupt instead of ending if what was read is not what desc
// says, and as soon as it is longer.
func VerifyingReader(r io.Reader, desc ocispec.Descriptor) io.Reader {
	return &verifier{r: r, desc: desc, digester: digest.SHA256.Digester()}
}

type verifier struct {
	r        io.Reader
	desc     ocispec.Descriptor
	digester digest.Digester
	n        int64
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.n += int64(n)
	if v.n > v.desc.Size {
		return 0, fmt.Errorf("%w: %s is longer than the %d bytes that it should have", ErrCorrupt, v.desc.Digest, v.desc.Size)
	}
	v.digester.Hash().Write(p[:n])
	if err != io.EOF {
		return n, err
	}
	if v.n < v.desc.Size {
		return n, fmt.Errorf("%w: %s ends after %d of %d bytes", ErrCorrupt, v.desc.Digest, v.n, v.desc.Size)
	}
	if got := v.digester.Digest(); got != v.desc.Digest {
		return n, fmt.Errorf("%w: %s has digest %s", ErrCorrupt, v.desc.Digest, got)
	}
	return n, io.EOF
}

// Verify reads every blob of a snapshot and reports the first that is missing or not what its digest says, or that could
// not be unpacked. It needs memory as Unpack does, and no disk.
func Verify(ctx context.Context, src BlobReader, manifest ocispec.Descriptor) error {
	m, cfg, err := Load(ctx, src, manifest)
	if err != nil {
		return err
	}
	plan, err := planUnpack(m, cfg)
	if err != nil {
		return fmt.Errorf("snapshot %s: %w", manifest.Digest, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	g.Go(func() error {
		return inLayer(plan.files, readFilesLayer(ctx, src, plan.files, plan.filesBytes, discardFiles{}))
	})
	if plan.rootfs != nil {
		g.Go(func() error { return inLayer(*plan.rootfs, readRootfsLayer(ctx, src, *plan.rootfs, io.Discard)) })
	}
	if plan.mountFiles != nil {
		g.Go(func() error { return inLayer(*plan.mountFiles, readMountFiles(ctx, src, *plan.mountFiles, io.Discard)) })
	}
	for _, f := range plan.frames {
		g.Go(func() error {
			_, release, err := ReadFrame(ctx, src, f)
			release()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("snapshot %s: %w", manifest.Digest, err)
	}
	return nil
}
