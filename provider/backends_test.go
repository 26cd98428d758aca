package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/store"
)

// TestSweepIsMadeUpFor: what a destroy could not sweep, since something was being published, goes when that is done.
func TestSweepIsMadeUpFor(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		b := &backends{}
		s.open(t, func(ctx context.Context, st store.Store) error {
			content := []byte("no ref leads here")
			desc := ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}
			if _, err := st.PutBlob(ctx, desc, bytes.NewReader(content)); err != nil {
				return err
			}
			published, err := st.Publishing(ctx)
			if err != nil {
				return err
			}
			swept, err := b.sweep(ctx, st)
			if err != nil || !swept.Busy || len(s.objects(t)) != 1 {
				t.Errorf("while publishing: %+v, %v", swept, err)
			}
			published()
			return b.sweepAgain(ctx, st)
		})
	})
}
