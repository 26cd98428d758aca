package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of a snapshot's parts. A breaking change of a part gets a new one.
const (
	ArtifactType        = "application/vnd.criu-docker.snapshot.v1"
	MediaTypeConfig     = "application/vnd.criu-docker.config.v1+json"
	MediaTypeFiles      = "application/vnd.criu-docker.checkpoint.v1.tar+zstd"
	MediaTypePages      = "application/vnd.criu-docker.pages.v2+zstd"
	MediaTypeRootfs     = ocispec.MediaTypeImageLayerZstd
	MediaTypeMountFiles = "application/vnd.criu-docker.mounts.v1.tar+zstd"
	annotationPrefix    = "io.github.criu-docker."
)

// Annotations of layers.
const (
	AnnotationFile     = annotationPrefix + "file"     // pages: name of the page image, for example "pages-1.img"
	AnnotationExtents  = annotationPrefix + "extents"  // pages: which pages of it the frame holds, in which order
	AnnotationFirst    = annotationPrefix + "first"    // pages: "true" if the app needs them before all others
	AnnotationLength   = annotationPrefix + "length"   // all layers: bytes when decompressed
	AnnotationOptional = annotationPrefix + "optional" // "true": readers that don't know the layer's media type skip it
)

// Limits that readers hold snapshots to.
const (
	FrameSize       = 4 << 20  // bytes of page image in one frame, at most
	FirstFrameSize  = 1 << 20  // the same of what is needed first: the smaller, the earlier is the first one there
	PageSize        = 4 << 10  // extents begin and end at multiples of it
	MaxManifestSize = 16 << 20 // bytes: some 160 GiB of memory
	MaxConfigSize   = 16 << 20 // bytes
)

// Load reads a snapshot's manifest and config.
func Load(ctx context.Context, src BlobReader, manifest ocispec.Descriptor) (ocispec.Manifest, Config, error) {
	m, err := LoadManifest(ctx, src, manifest)
	if err != nil {
		return m, Config{}, err
	}
	var cfg Config
	if err := readJSON(ctx, src, m.Config, MaxConfigSize, &cfg); err != nil {
		return m, Config{}, fmt.Errorf("snapshot %s: config: %w", manifest.Digest, err)
	}
	return m, cfg, nil
}

// LoadManifest reads a snapshot's manifest alone.
func LoadManifest(ctx context.Context, src BlobReader, manifest ocispec.Descriptor) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := readJSON(ctx, src, manifest, MaxManifestSize, &m); err != nil {
		return m, fmt.Errorf("snapshot %s: manifest: %w", manifest.Digest, err)
	}
	if m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != ArtifactType || m.Config.MediaType != MediaTypeConfig {
		return m, fmt.Errorf("snapshot %s: it is a %q with config %q, not a %s that this version of criu-docker can read",
			manifest.Digest, m.ArtifactType, m.Config.MediaType, ArtifactType)
	}
	return m, nil
}

// newManifest puts the layers together; equal inputs give equal bytes.
func newManifest(cfg Config, config ocispec.Descriptor, layers []ocispec.Descriptor) ocispec.Manifest {
	annotations := map[string]string{
		ocispec.AnnotationBaseImageName: cfg.Image.Reference,
		annotationPrefix + "image-id":   cfg.Image.ID.String(),
		annotationPrefix + "arch":       cfg.Image.Arch,
	}
	if !cfg.Created.IsZero() {
		annotations[ocispec.AnnotationCreated] = cfg.Created.Format(time.RFC3339)
	}
	return ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: ArtifactType,
		Config:       config,
		Layers:       layers,
		Annotations:  annotations,
	}
}

// putJSON stores v and returns its descriptor.
func putJSON(ctx context.Context, dst BlobWriter, mediaType string, limit int, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(b) > limit {
		return ocispec.Descriptor{}, fmt.Errorf("%s has %d bytes, more than the %d that readers accept", mediaType, len(b), limit)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	_, err = dst.PutBlob(ctx, desc, bytes.NewReader(b))
	return desc, err
}

func readJSON(ctx context.Context, src BlobReader, desc ocispec.Descriptor, limit int64, v any) error {
	if desc.Size < 0 || desc.Size > limit {
		return fmt.Errorf("%w: %d bytes claimed, at most %d make sense", ErrCorrupt, desc.Size, limit)
	}
	rc, err := src.OpenBlob(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %s: %v", ErrCorrupt, desc.MediaType, err) //nolint:errorlint // one sentinel is enough
	}
	return nil
}

// annotatedInt reads an annotation that holds a number of bytes.
func annotatedInt(layer ocispec.Descriptor, name string) (int64, error) {
	n, err := strconv.ParseInt(layer.Annotations[name], 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: layer %s: annotation %s is %q, not a number of bytes", ErrCorrupt, layer.Digest, name, layer.Annotations[name])
	}
	return n, nil
}
