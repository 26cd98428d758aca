package snapshot_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

func TestRoundTrip(t *testing.T) {
	ctx := context.Background()
	files := map[string][]byte{
		"inventory.img":    []byte("small"),
		"descriptors.json": []byte(`["pipe:[1]"]`),
		"pages-1.img":      memory(1, 2*snapshot.FrameSize+3*snapshot.PageSize),
		"pages-2.img":      memory(2, snapshot.FrameSize),
		"pages-3.img":      {},
		"ghost-file-1.img": memory(3, 3<<20),
	}
	src := source(t, files, memory(4, 1<<20))
	var last, total int64
	src.Progress = func(d, n int64) { last, total = d, n }
	st := openStore(t)

	desc, packed, err := snapshot.Pack(ctx, st, src)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := snapshot.Pack(ctx, openStore(t), src)
	if err != nil || again.Digest != desc.Digest {
		t.Errorf("packed again: %v, %v; want the same manifest %v", again.Digest, err, desc.Digest)
	}
	if err := snapshot.Verify(ctx, st, desc); err != nil {
		t.Errorf("Verify: %v", err)
	}
	dir := t.TempDir()
	cfg, err := unpack(ctx, st, desc, dir)
	if err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	if diff := cmp.Diff(packed, cfg); diff != "" {
		t.Errorf("config (-packed +unpacked):\n%s", diff)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, snapshot.CheckpointName, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want the %d packed", name, len(got), err, len(want))
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, snapshot.RootfsName))
	if err != nil || !bytes.Equal(got, memory(4, 1<<20)) {
		t.Errorf("rootfs.tar: %d bytes, %v", len(got), err)
	}
}

func unpack(ctx context.Context, src snapshot.BlobReader, desc ocispec.Descriptor, dir string) (snapshot.Config, error) {
	m, cfg, err := snapshot.Load(ctx, src, desc)
	if err != nil {
		return cfg, err
	}
	return cfg, snapshot.Unpack(ctx, src, m, cfg, dir)
}

// memory makes bytes that compress about as well as a process's memory: zero pages, text, noise.
func memory(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for off := 0; off+snapshot.PageSize <= n; off += snapshot.PageSize {
		page := b[off : off+snapshot.PageSize]
		switch r.IntN(4) {
		case 0:
		case 1, 2:
			for i := range page {
				page[i] = "aeinrst "[r.IntN(8)]
			}
		case 3:
			for i := range page {
				page[i] = byte(r.Uint32())
			}
		}
	}
	return b
}

func source(t testing.TB, files map[string][]byte, rootfs []byte) snapshot.Source {
	t.Helper()
	dir := t.TempDir()
	src := snapshot.Source{CheckpointDir: filepath.Join(dir, "images"), TempDir: dir}
	src.Config.Created = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	src.Config.Image = snapshot.Image{Reference: "redmine:5.0", ID: "sha256:" + zeros, Arch: "amd64"}
	if err := os.Mkdir(src.CheckpointDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(src.CheckpointDir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if rootfs != nil {
		src.RootfsTar = filepath.Join(dir, "rootfs.tar")
		if err := os.WriteFile(src.RootfsTar, rootfs, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return src
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func openStore(t testing.TB) store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return st
}
