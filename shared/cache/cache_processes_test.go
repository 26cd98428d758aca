package cache_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/store"
)

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
