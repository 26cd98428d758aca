package cache_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

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
		"marker lost":   func(dir string) error { return os.Remove(filepath.Join(dir, "used")) },
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

func TestSnapshotLargerThanTheBound(t *testing.T) {
	st := openStore(t, t.TempDir())
	c := openCache(t, t.TempDir(), 1000)
	e, err := c.Get(context.Background(), st, publish(t, st, 1, 1<<20))
	require.NoError(t, err)
	defer e.Release()
	checkEntry(t, e.Dir, 1, 1<<20)
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

// Environment of the child processes that the tests below run this binary as.
const (
	childDir    = "CACHE_TEST_DIR"
	childStore  = "CACHE_TEST_STORE"
	childDigest = "CACHE_TEST_DIGEST"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDir) != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// child gets a snapshot, makes a clone and removes it, and prints how often it read the manifest.
func child() int {
	ctx := context.Background()
	base, err := store.Open(ctx, os.Getenv(childStore))
	if err != nil {
		println(err.Error())
		return 1
	}
	st := &countingStore{Store: base}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(os.Getenv(childDigest))}
	if desc.Size, err = st.StatBlob(ctx, desc.Digest); err != nil {
		println(err.Error())
		return 1
	}
	c, err := cache.Open(os.Getenv(childDir), 0)
	if err != nil {
		println(err.Error())
		return 1
	}
	_, _ = os.Stdout.WriteString("begin\n")
	e, err := c.Get(ctx, st, desc)
	if err != nil {
		println(err.Error())
		return 1
	}
	defer e.Release()
	id := "container" + strings.ReplaceAll(time.Now().Format(".000000000"), ".", "")
	if _, err := c.Clone(e, id, "web"); err != nil {
		println(err.Error())
		return 1
	}
	if err := c.RemoveClone(id); err != nil {
		println(err.Error())
		return 1
	}
	_, _ = os.Stdout.WriteString(strings.Repeat("fetched\n", int(st.manifests.Load())))
	return 0
}

func startChild(t *testing.T, storeDir, dir string, desc ocispec.Descriptor) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childStore+"="+storeDir, childDigest+"="+desc.Digest.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, bufio.NewReader(out)
}

func TestManyProcessesFetchOnce(t *testing.T) {
	storeDir, dir := t.TempDir(), t.TempDir()
	desc := publish(t, openStore(t, storeDir), 1, 16<<20)
	var fetched int
	type running struct {
		cmd *exec.Cmd
		out *bufio.Reader
	}
	var children []running
	for range 6 {
		cmd, out := startChild(t, storeDir, dir, desc)
		children = append(children, running{cmd, out})
	}
	for _, c := range children {
		out, err := io.ReadAll(c.out)
		require.NoError(t, err)
		require.NoError(t, c.cmd.Wait())
		fetched += strings.Count(string(out), "fetched")
	}
	require.Equal(t, 1, fetched)
	requireEmpty(t, dir, "tmp", "clones")
}

// Whenever a process is killed, the cache goes on as if it had never been.
func TestKilledAtRandomPoints(t *testing.T) {
	storeDir := t.TempDir()
	const size = 32 << 20
	desc := publish(t, openStore(t, storeDir), 1, size)
	for i := range 12 {
		dir := t.TempDir()
		cmd, out := startChild(t, storeDir, dir, desc)
		_, err := out.ReadString('\n') // it has begun
		require.NoError(t, err)
		time.Sleep(time.Duration(i*i) * time.Millisecond) // the point of death, not a condition
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()

		c := openCache(t, dir, 0)
		requireEmpty(t, dir, "tmp")
		for _, d := range cached(t, c) {
			require.Equal(t, desc.Digest, d)
		}
		e, err := c.Get(context.Background(), openStore(t, storeDir), desc)
		require.NoError(t, err)
		checkEntry(t, e.Dir, 1, size)
		clone, err := c.Clone(e, "after", "web")
		require.NoError(t, err)
		require.DirExists(t, clone.CheckpointDir)
		e.Release()
		ids, err := c.Clones()
		require.NoError(t, err)
		for _, id := range ids { // whole ones, which a sweep finds by their ids
			require.NoError(t, c.RemoveClone(id))
		}
		require.NoError(t, c.Evict(desc.Digest))
		requireEmpty(t, dir, "snapshots", "tmp", "clones")
	}
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
