package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/store"
)

// TestStoreThatIsFull: a build that fails for want of space leaves nothing of what it uploaded, so that the next one has as much.
func TestStoreThatIsFull(t *testing.T) {
	l := newLab(t)
	whole := l.build(l.spec(tiny, ""), tinyReady)
	dir := l.disk("small", whole.Config.Sizes.Packed*3/4)
	s, err := store.Open(l.ctx, dir)
	require.NoError(t, err)
	defer s.Close()
	options := build.Options{Spec: l.spec(tiny, ""), Ready: tinyReady, Checkpoint: criu.DefaultOptions(), Store: s, NoProfile: true}

	for range 2 {
		_, err = build.Snapshot(l.ctx, l.eng, options)
		require.ErrorIs(t, err, unix.ENOSPC)
		require.ErrorContains(t, err, "free space on the disk of the store "+dir)
		require.Empty(t, blobs(t, dir))
	}
	l.resize(dir, whole.Config.Sizes.Packed+16<<20)
	_, err = build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
	require.NotEmpty(t, blobs(t, dir))
}

// TestBuildDirectoryThatIsFull: CRIU names the reason in one case, and in the other a tmpfs whose archive it could not write.
func TestBuildDirectoryThatIsFull(t *testing.T) {
	l := newLab(t)
	for name, size := range map[string]int64{"at once": 16 << 10, "while a tmpfs is archived": 128 << 10} {
		dir := l.disk(name, size)
		_, err := build.Snapshot(l.ctx, l.eng, build.Options{
			Spec: l.spec(tiny, ""), Ready: tinyReady, Checkpoint: criu.DefaultOptions(), Store: l.store, Dir: dir,
		})
		require.ErrorContains(t, err, "the disk of the build directory "+dir+" is full: free space there, or name another with --build-dir: ")
		left, err := filepath.Glob(dir + "/build-*")
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// disk mounts a file system of a size.
func (l *lab) disk(name string, bytes int64) string {
	l.Helper()
	dir := filepath.Join(l.dir, name)
	require.NoError(l, os.Mkdir(dir, 0o700))
	require.NoError(l, unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("mode=0700,size=%d", bytes)))
	l.Cleanup(func() { require.NoError(l, unix.Unmount(dir, 0)) })
	return dir
}

func (l *lab) resize(dir string, bytes int64) {
	l.Helper()
	require.NoError(l, unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", bytes)))
}

// blobs returns the files of the blobs in a store's directory.
func blobs(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "blobs", "*", "*"))
	require.NoError(t, err)
	return files
}
