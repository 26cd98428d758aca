package cache_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/utsns"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

func TestGetAndClone(t *testing.T) {
	ctx := context.Background()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 1, 1<<20)
	c := openCache(t, t.TempDir(), 0)

	for _, warm := range []bool{false, true} {
		e, err := c.Get(ctx, st, desc)
		if err != nil {
			t.Fatal(err)
		}
		if e.Warm != warm || e.Config.Image.Reference != "redmine:5.0" {
			t.Errorf("warm = %v, image = %q; want %v, redmine:5.0", e.Warm, e.Config.Image.Reference, warm)
		}
		e.Release()
	}
	e, err := c.Get(ctx, st, desc)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	clone, err := c.Clone(e, "abc123", "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := criu.Hostname(clone.CheckpointDir); err != nil || got != "web-1" {
		t.Errorf("the clone's hostname is %q, %v", got, err)
	}
	if got, err := criu.Hostname(filepath.Join(e.Dir, "checkpoint")); err != nil || got != "donor" {
		t.Errorf("the entry's hostname became %q, %v", got, err)
	}
	a, errA := os.Stat(filepath.Join(clone.CheckpointDir, "pages-1.img"))
	b, errB := os.Stat(filepath.Join(e.Dir, "checkpoint", "pages-1.img"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("pages are not shared: %v, %v", errA, errB)
	}
	if got, err := os.ReadFile(clone.RootfsDelta); err != nil || string(got) != "delta" {
		t.Errorf("container-layer delta: %q, %v", got, err)
	}
	if err := c.RemoveClone("abc123"); err != nil {
		t.Error(err)
	}
	if err := c.RemoveClone("abc123"); err != nil {
		t.Errorf("removing it again: %v", err)
	}
	if ids, err := c.Clones(); err != nil || len(ids) != 0 {
		t.Errorf("clones left: %v, %v", ids, err)
	}
}

// publish packs a snapshot of so many bytes of memory.
func publish(t testing.TB, st store.Store, seed byte, memory int) ocispec.Descriptor {
	t.Helper()
	dir := t.TempDir()
	src := snapshot.Source{CheckpointDir: filepath.Join(dir, "images"), RootfsTar: filepath.Join(dir, "rootfs.tar"), TempDir: dir}
	src.Config.Image = snapshot.Image{Reference: "redmine:5.0", Arch: "amd64"}
	if err := os.Mkdir(src.CheckpointDir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src.CheckpointDir, "pages-1.img"), bytes.Repeat([]byte{seed}, memory))
	write(t, filepath.Join(src.CheckpointDir, "inventory.img"), []byte{seed})
	write(t, src.RootfsTar, []byte("delta"))
	uts, err := os.Create(filepath.Join(src.CheckpointDir, "utsns-11.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer uts.Close()
	img := &crit.CriuImage{Magic: "UTSNS", EntryType: &utsns.UtsnsEntry{}, Entries: []*crit.CriuEntry{
		{Message: &utsns.UtsnsEntry{Nodename: proto.String("donor"), Domainname: proto.String("(none)")}},
	}}
	if err := crit.New(nil, uts, "", false, false).Encode(img); err != nil {
		t.Fatal(err)
	}
	desc, _, err := snapshot.Pack(context.Background(), st, src)
	if err != nil {
		t.Fatal(err)
	}
	return desc
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func openStore(t testing.TB, dir string) store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func openCache(t testing.TB, dir string, maxBytes int64) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, maxBytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
