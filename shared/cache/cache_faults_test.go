package cache_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// countingStore counts the manifests that are read: one a fill.
type countingStore struct {
	store.Store
	manifests atomic.Int32
	before    func(desc ocispec.Descriptor) error // asked before each blob
}

func (s *countingStore) OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.MediaType == ocispec.MediaTypeImageManifest {
		s.manifests.Add(1)
	}
	if s.before != nil {
		if err := s.before(desc); err != nil {
			return nil, err
		}
	}
	return s.Store.OpenBlob(ctx, desc)
}

func TestManyGoroutinesFetchOnce(t *testing.T) {
	st := &countingStore{Store: openStore(t, t.TempDir())}
	desc := publish(t, st, 1, 8<<20)
	dir := t.TempDir()
	var wg sync.WaitGroup
	var cold atomic.Int32
	for range 16 {
		c := openCache(t, dir, 0)
		wg.Go(func() {
			e, err := c.Get(context.Background(), st, desc)
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Release()
			checkEntry(t, e.Dir, 1, 8<<20)
			if !e.Warm {
				cold.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, st.manifests.Load())
	require.Positive(t, cold.Load())
}

func TestNextOneTriesWhenTheFirstGivesUp(t *testing.T) {
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 1, 1<<20)
	c := openCache(t, t.TempDir(), 0)

	ctx, giveUp := context.WithCancel(context.Background())
	fetching := make(chan struct{})
	slow := &countingStore{Store: st, before: func(ocispec.Descriptor) error {
		close(fetching)
		<-ctx.Done()
		return ctx.Err()
	}}
	first := make(chan error)
	go func() {
		_, err := c.Get(ctx, slow, desc)
		first <- err
	}()
	<-fetching
	second := make(chan error)
	go func() {
		e, err := c.Get(context.Background(), st, desc)
		if err == nil {
			e.Release()
		}
		second <- err
	}()
	giveUp()
	require.ErrorIs(t, <-first, context.Canceled)
	require.NoError(t, <-second)
}

func TestGetEndsWithItsContext(t *testing.T) {
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 1, 1<<20)
	c := openCache(t, t.TempDir(), 0)
	stop := make(chan struct{})
	fetching := make(chan struct{})
	slow := &countingStore{Store: st, before: func(ocispec.Descriptor) error {
		close(fetching)
		<-stop
		return errors.New("stopped")
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := c.Get(context.Background(), slow, desc)
		if err == nil {
			t.Error("no error from a stopped fetch")
		}
	}()
	<-fetching
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, st, desc)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(stop)
	<-done
}

func TestCorruptBlobNeverEnters(t *testing.T) {
	ctx := context.Background()
	storeDir, dir := t.TempDir(), t.TempDir()
	st := openStore(t, storeDir)
	desc := publish(t, st, 1, 8<<20)
	m, err := snapshot.LoadManifest(ctx, st, desc)
	require.NoError(t, err)
	for _, blob := range append(slices.Clone(m.Layers), m.Config, desc) {
		path := filepath.Join(storeDir, "blobs", "sha256", blob.Digest.Encoded())
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		for name, bad := range map[string][]byte{"flipped": append([]byte{whole[0] ^ 1}, whole[1:]...), "truncated": whole[1:], "missing": nil} {
			t.Run(name+" "+blob.MediaType, func(t *testing.T) {
				require.NoError(t, os.RemoveAll(path))
				want := store.ErrNotFound
				if bad != nil {
					write(t, path, bad)
					want = store.ErrCorrupt
				}
				c := openCache(t, dir, 0)
				_, err := c.Get(ctx, st, desc)
				require.ErrorIs(t, err, want)
				require.ErrorContains(t, err, blob.Digest.Encoded())
				requireEmpty(t, dir, "snapshots", "tmp")
			})
		}
		write(t, path, whole)
	}
}

func TestDamagedEntryIsFetchedAnew(t *testing.T) {
	ctx := context.Background()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 1, 1<<20)
	c := openCache(t, t.TempDir(), 0)
	e, err := c.Get(ctx, st, desc)
	require.NoError(t, err)
	e.Release()
	for name, damage := range map[string]func(dir string) error{
		"pages cut off": func(dir string) error { return os.Truncate(filepath.Join(dir, "checkpoint", "pages-1.img"), 4096) },
		"image lost":    func(dir string) error { return os.Remove(filepath.Join(dir, "checkpoint", "inventory.img")) },
		"delta lost":    func(dir string) error { return os.Remove(filepath.Join(dir, "rootfs.tar")) },
		"config broken": func(dir string) error { return os.Truncate(filepath.Join(dir, "config.json"), 10) },
		"sizes broken":  func(dir string) error { return os.Truncate(filepath.Join(dir, "sizes.json"), 1) },
	} {
		require.NoError(t, damage(e.Dir), name)
		again, err := c.Get(ctx, st, desc)
		require.NoError(t, err, name)
		require.False(t, again.Warm, name)
		checkEntry(t, again.Dir, 1, 1<<20)
		again.Release()
	}
}

func TestEviction(t *testing.T) {
	ctx := context.Background()
	st := openStore(t, t.TempDir())
	var descs []ocispec.Descriptor
	for i := range 5 {
		descs = append(descs, publish(t, st, byte(i), 1<<20))
	}
	const room = 3<<20 + 1<<19 // for three
	c := openCache(t, t.TempDir(), room)
	get := func(i int) *cache.Entry {
		t.Helper()
		e, err := c.Get(ctx, st, descs[i])
		require.NoError(t, err)
		return e
	}
	for _, i := range []int{0, 1, 2, 0} { // 0 is used again: 1 is now the oldest
		get(i).Release()
	}
	get(3).Release()
	require.Equal(t, digests(descs[2], descs[0], descs[3]), cached(t, c))

	held := get(2) // would be the next but one
	cloned := get(0)
	_, err := c.Clone(cloned, "container1", "web")
	require.NoError(t, err)
	cloned.Release()
	get(4).Release()
	require.Equal(t, digests(descs[2], descs[0], descs[4]), cached(t, c), "3 was older than 4, and not in use")
	get(1).Release()
	get(3).Release()
	require.Equal(t, digests(descs[2], descs[0], descs[3]), cached(t, c))

	require.ErrorIs(t, c.Evict(descs[2].Digest), cache.ErrInUse)
	require.ErrorIs(t, c.Evict(descs[0].Digest), cache.ErrInUse)
	require.ErrorContains(t, c.Evict(descs[0].Digest), "container1")
	held.Release()
	held.Release()
	require.NoError(t, c.RemoveClone("container1"))
	for _, d := range descs {
		require.NoError(t, c.Evict(d.Digest))
	}
	require.Empty(t, cached(t, c))
	requireEmpty(t, c.Dir(), "snapshots", "tmp", "clones")
}

// A clone that was made of an entry has links to its files, and is restored from them again.
func TestDamagedEntryOfACloneIsMendedInPlace(t *testing.T) {
	ctx := context.Background()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 1, 1<<20)
	c := openCache(t, t.TempDir(), 0)
	e, err := c.Get(ctx, st, desc)
	require.NoError(t, err)
	clone, err := c.Clone(e, "container1", "")
	require.NoError(t, err)
	e.Release()
	pages := filepath.Join(e.Dir, "checkpoint", "pages-1.img")
	before, err := os.Stat(pages)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(pages, 4096))

	e, err = c.Get(ctx, st, desc)
	require.NoError(t, err)
	e.Release()
	checkEntry(t, e.Dir, 1, 1<<20)
	after, err := os.Stat(filepath.Join(clone.CheckpointDir, "pages-1.img"))
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
	checkEntry(t, filepath.Dir(clone.CheckpointDir), 1, 1<<20)
	requireEmpty(t, c.Dir(), "tmp")
}

// What keeps a good entry from being read does not make it a bad one.
func TestEntryThatCanNotBeReadStays(t *testing.T) {
	ctx := context.Background()
	st := openStore(t, t.TempDir())
	desc := publish(t, st, 1, 1<<20)
	c := openCache(t, t.TempDir(), 0)
	e, err := c.Get(ctx, st, desc)
	require.NoError(t, err)
	e.Release()
	before, err := os.Stat(e.Dir)
	require.NoError(t, err)

	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	failed := 0
	for files := range uint64(64) { // at some number, the lock can be opened, and what it protects can't
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: limit.Max}))
		e, err := c.Get(ctx, st, desc)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)
			failed++
			continue
		}
		require.True(t, e.Warm)
		e.Release()
	}
	require.NotZero(t, failed)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	after, err := os.Stat(e.Dir)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
}

func TestSnapshotThatDoesNotFitIsNotFetched(t *testing.T) {
	ctx := context.Background()
	st := &countingStore{Store: openStore(t, t.TempDir())}
	one, two, large := publish(t, st, 1, 1<<20), publish(t, st, 2, 1<<20), publish(t, st, 3, 4<<20)
	c := openCache(t, t.TempDir(), 3<<19) // for one
	begin := func(desc ocispec.Descriptor) error {
		e, err := c.Begin(ctx, st, desc)
		if err == nil {
			e.Release()
		}
		return err
	}
	require.NoError(t, begin(one))
	for _, get := range []func(ocispec.Descriptor) error{begin, func(desc ocispec.Descriptor) error { _, err := c.Get(ctx, st, desc); return err }} {
		require.ErrorIs(t, get(large), cache.ErrNoRoom)
		require.Equal(t, digests(one), cached(t, c), "nothing is evicted in vain")
	}

	// What a clone uses stays, and the bound is kept all the same.
	e, err := c.Get(ctx, st, one)
	require.NoError(t, err)
	_, err = c.Clone(e, "container1", "web")
	require.NoError(t, err)
	e.Release()
	require.ErrorIs(t, begin(two), cache.ErrNoRoom)
	require.NoError(t, c.RemoveClone("container1"))
	require.NoError(t, begin(two))
	require.Equal(t, digests(two), cached(t, c))
	require.NoError(t, c.Evict(two.Digest))

	// So is it by what others are fetching at the moment.
	fetching, goOn := make(chan struct{}), make(chan struct{})
	slow := &countingStore{Store: st, before: func(desc ocispec.Descriptor) error {
		if desc.MediaType == snapshot.MediaTypePages {
			close(fetching)
			<-goOn
		}
		return nil
	}}
	done := make(chan error)
	go func() {
		e, err := c.Get(ctx, slow, one)
		if err == nil {
			e.Release()
		}
		done <- err
	}()
	<-fetching
	require.ErrorIs(t, begin(two), cache.ErrNoRoom)
	close(goOn)
	require.NoError(t, <-done)
	requireEmpty(t, c.Dir(), "tmp")
}

func TestCloneRefuses(t *testing.T) {
	ctx := context.Background()
	st := openStore(t, t.TempDir())
	c := openCache(t, t.TempDir(), 0)
	e, err := c.Get(ctx, st, publish(t, st, 1, 1<<20))
	require.NoError(t, err)
	defer e.Release()
	for _, id := range []string{"", ".", "..", "../x", "a/b", ".hidden"} {
		_, err := c.Clone(e, id, "web")
		require.ErrorContains(t, err, "container id", id)
		require.Error(t, c.RemoveClone(id))
	}
	_, err = c.Clone(e, "abc", "not a hostname")
	require.ErrorContains(t, err, "hostname")
	requireEmpty(t, c.Dir(), "clones", "tmp")

	for _, hostname := range []string{"one", "two"} { // an older one is replaced
		_, err = c.Clone(e, "abc", hostname)
		require.NoError(t, err)
	}
	ids, err := c.Clones()
	require.NoError(t, err)
	require.Equal(t, []string{"abc"}, ids)
	requireEmpty(t, c.Dir(), "tmp")
}

func checkEntry(t *testing.T, dir string, seed byte, memory int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "checkpoint", "pages-1.img"))
	if err != nil || len(b) != memory || slices.ContainsFunc(b, func(c byte) bool { return c != seed }) {
		t.Errorf("pages-1.img: %d bytes, %v; want %d bytes of %d", len(b), err, memory, seed)
	}
}

func cached(t *testing.T, c *cache.Cache) []digest.Digest {
	t.Helper()
	items, err := c.List()
	require.NoError(t, err)
	var ds []digest.Digest
	for _, i := range items {
		ds = append(ds, i.Manifest)
	}
	return ds
}

func digests(descs ...ocispec.Descriptor) []digest.Digest {
	var ds []digest.Digest
	for _, d := range descs {
		ds = append(ds, d.Digest)
	}
	return ds
}

func requireEmpty(t *testing.T, dir string, subs ...string) {
	t.Helper()
	for _, sub := range subs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		require.NoError(t, err)
		require.Empty(t, entries, sub)
	}
}
