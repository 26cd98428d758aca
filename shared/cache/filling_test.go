package cache_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

const filledBytes = 64 << 20

// begun is a snapshot of 64 MiB whose memory is not there yet.
func begun(t *testing.T, dir string, s store.Store, desc ocispec.Descriptor) *cache.Entry {
	t.Helper()
	e, err := openCache(t, dir, 0).Begin(context.Background(), s, desc)
	require.NoError(t, err)
	t.Cleanup(e.Release)
	require.NotNil(t, e.Filling)
	require.False(t, e.Warm)
	return e
}

func page(n int64) pages.Range {
	return pages.Range{File: "pages-1.img", Offset: n * snapshot.PageSize, Length: snapshot.PageSize}
}

// content reads a range of an entry's page image.
func content(t *testing.T, e *cache.Entry, r pages.Range) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(e.Dir, "checkpoint", r.File))
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, r.Length)
	_, err = f.ReadAt(b, r.Offset)
	require.NoError(t, err)
	return b
}

func TestMemoryIsFetchedAsItIsNeeded(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 7, filledBytes)
	e := begun(t, dir, st, desc)
	for _, name := range []string{"checkpoint/inventory.img", "rootfs.tar"} {
		require.FileExists(t, filepath.Join(e.Dir, name))
	}
	first, last := page(0), page(filledBytes/snapshot.PageSize-1)
	require.False(t, e.Filling.Has(last))
	require.NoError(t, e.Filling.Ensure(ctx, last))
	require.True(t, e.Filling.Has(last))
	require.False(t, e.Filling.Has(first))
	require.Equal(t, bytes.Repeat([]byte{7}, snapshot.PageSize), content(t, e, last))

	// Another process goes on where this one is.
	other, err := openCache(t, dir, 0).Resume(ctx, desc.Digest, func(context.Context) (store.Store, error) { return st, nil })
	require.NoError(t, err)
	defer other.Release()
	require.True(t, other.Filling.Has(last))
	require.NoError(t, other.Filling.FetchQuietly(ctx))
	require.True(t, e.Filling.Has(first), "what one fetches the other has")
	require.NoError(t, e.Filling.FetchAll(ctx))

	whole, err := openCache(t, dir, 0).Begin(ctx, st, desc)
	require.NoError(t, err)
	defer whole.Release()
	require.True(t, whole.Warm)
	require.Nil(t, whole.Filling)
	all := content(t, whole, pages.Range{File: "pages-1.img", Length: filledBytes})
	require.Equal(t, bytes.Repeat([]byte{7}, filledBytes), all)
}

func TestResumeOfWhatWasNotBegun(t *testing.T) {
	_, err := openCache(t, t.TempDir(), 0).Resume(context.Background(), digest.FromString("x"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// counting is a store that counts how often each blob is opened.
type counting struct {
	store.Store
	mu     sync.Mutex
	opened map[digest.Digest]int
}

func (c *counting) OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	c.mu.Lock()
	c.opened[desc.Digest]++
	c.mu.Unlock()
	return c.Store.OpenBlob(ctx, desc)
}

func TestManyFillOneSnapshotAndFetchEachFrameOnce(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 7, filledBytes)
	m, err := snapshot.LoadManifest(ctx, st, desc)
	require.NoError(t, err)
	c := &counting{Store: st, opened: map[digest.Digest]int{}}
	var g errgroup.Group
	const many = 16
	for range many {
		e := begun(t, dir, c, desc)
		g.Go(func() error { return e.Filling.FetchAll(ctx) }) // and make it whole, all of them at the same time
		g.Go(func() error { return e.Filling.Ensure(ctx, page(9999)) })
	}
	require.NoError(t, g.Wait())
	places := map[digest.Digest]int{} // equal frames are one blob
	for _, l := range m.Layers {
		places[l.Digest]++
	}
	for _, l := range m.Layers {
		require.Equal(t, places[l.Digest], c.opened[l.Digest], l.Digest)
	}
}

// failing is a store that has no memory.
type failing struct {
	store.Store
	err error
}

func (f failing) OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.MediaType == snapshot.MediaTypePages {
		return nil, f.err
	}
	return f.Store.OpenBlob(ctx, desc)
}

func TestMemoryThatCanNotBeFetched(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 7, filledBytes)
	for _, cause := range []error{store.ErrNotFound, snapshot.ErrCorrupt} {
		e := begun(t, dir, failing{st, cause}, desc)
		require.ErrorIs(t, e.Filling.Ensure(ctx, page(0)), cause)
		require.ErrorIs(t, e.Filling.FetchAll(ctx), cause)
		require.False(t, e.Filling.Has(page(0)))
		require.Equal(t, make([]byte, snapshot.PageSize), content(t, e, page(0)), "nothing that was not checked is written")
	}
	ended, cancel := context.WithCancelCause(ctx)
	enough := errors.New("enough")
	cancel(enough)
	e := begun(t, dir, failing{st, errors.New("the network is down")}, desc)
	require.Error(t, e.Filling.Ensure(ended, page(0)), "it does not go on for ever")

	// A store that is well again completes what was begun.
	whole, err := openCache(t, dir, 0).Get(ctx, st, desc)
	require.NoError(t, err)
	whole.Release()
}

func TestFillingThatARebootInterruptedIsBegunAnew(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 7, filledBytes)
	e := begun(t, dir, st, desc)
	require.NoError(t, e.Filling.FetchFirst(ctx))
	require.NoError(t, e.Filling.Ensure(ctx, page(0)))
	e.Release()
	state := filepath.Join(e.Dir, "filling")
	b, err := os.ReadFile(state)
	require.NoError(t, err)
	copy(b, "00000000-")
	require.NoError(t, os.WriteFile(state, b, 0o600))

	again := begun(t, dir, st, desc)
	require.False(t, again.Filling.Has(page(0)), "nothing says that it is on disk")
}

func TestFillingKeepsItsEntry(t *testing.T) {
	dir := t.TempDir()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 7, 1<<20)
	e := begun(t, dir, st, desc)
	require.ErrorIs(t, openCache(t, dir, 0).Evict(desc.Digest), cache.ErrInUse)
	e.Release()
	require.NoError(t, openCache(t, dir, 0).Evict(desc.Digest))
}
