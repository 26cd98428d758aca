package store

import (
	"bytes"
	"context"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	s, err := Open(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := []byte("hello")
	d := ocispec.Descriptor{MediaType: "x", Digest: digest.FromBytes(b), Size: 5}
	done, err := s.Publishing(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		if existed, err := s.PutBlob(ctx, d, bytes.NewReader(b)); err != nil || existed != want {
			t.Fatal(existed, err)
		}
	}
	if err := s.PutRef(ctx, "a/b/c", d, ""); err != nil {
		t.Fatal(err)
	}
	if sw, err := s.Sweep(ctx); err != nil || !sw.Busy {
		t.Fatal(sw, err)
	}
	done()
	es, err := s.ListRefs(ctx, "a/")
	if err != nil || len(es) != 1 {
		t.Fatal(es, err)
	}
	if err := s.DeleteRef(ctx, "a/b/c", es[0].Generation); err != nil {
		t.Fatal(err)
	}
	if sw, err := s.Sweep(ctx); err != nil || sw.Blobs != 1 {
		t.Fatal(sw, err)
	}
}
