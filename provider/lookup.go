package main

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// published is a snapshot as it was found in a store.
type published struct {
	ref    snapshot.Ref
	entry  store.Entry
	config snapshot.Config
}

// sampled is how many layers of a snapshot are looked for. A large one has thousands, and a refresh of many snapshots must not
// take a request for each.
const sampled = 8

// lookUp finds a snapshot by its ref and sees that its content is there: manifest, config, and a sample of the layers. It
// returns store.ErrNotFound when something is not.
func lookUp(ctx context.Context, s store.Store, name string) (*published, error) {
	ref, err := snapshot.ParseRef(name)
	if err != nil {
		return nil, err
	}
	entry, err := s.GetRef(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s in %s: %w", name, s.URL(), err)
	}
	manifest, config, err := snapshot.Load(ctx, s, entry.Manifest)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s in %s: %w", name, s.URL(), err)
	}
	for _, layer := range sample(manifest.Layers) {
		if _, err := s.StatBlob(ctx, layer.Digest); err != nil {
			return nil, fmt.Errorf("snapshot %s in %s: layer %s: %w", name, s.URL(), layer.Digest, err)
		}
	}
	return &published{ref: ref, entry: entry, config: config}, nil
}

// sample returns the first of the layers, the last, and some in between.
func sample(layers []ocispec.Descriptor) []ocispec.Descriptor {
	if len(layers) <= sampled {
		return layers
	}
	some := make([]ocispec.Descriptor, sampled)
	for i := range some {
		some[i] = layers[i*(len(layers)-1)/(sampled-1)]
	}
	return some
}

// deleteRef removes a ref that leads to the manifest of the given digest. One that is gone, or that leads elsewhere, is left
// as it is: then it is the successor's.
func deleteRef(ctx context.Context, s store.Store, name, digest string) error {
	for {
		entry, err := s.GetRef(ctx, name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("snapshot %s in %s: %w", name, s.URL(), err)
		}
		if entry.Manifest.Digest.String() != digest {
			return nil
		}
		err = s.DeleteRef(ctx, name, entry.Generation)
		switch {
		case err == nil, errors.Is(err, store.ErrNotFound):
			return nil
		case !errors.Is(err, store.ErrConflict): // another publication was faster: see what is there now
			return fmt.Errorf("delete snapshot %s from %s: %w", name, s.URL(), err)
		}
	}
}
