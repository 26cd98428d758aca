package cache_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/owned"
)

// TestOnlyWhatIsOursIsSwept: in a cache's own directory too.
func TestOnlyWhatIsOursIsSwept(t *testing.T) {
	dir := t.TempDir()
	openCache(t, dir, 0)
	foreign := []string{"tmp/thesis", "tmp/" + strings.Repeat("0", 63), "clones/dolly", "snapshots/holiday"}
	for _, sub := range foreign {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "tmp", strings.Repeat("1", 64)), 0o600))
	ours := filepath.Join(dir, "tmp", strings.Repeat("2", 64))
	retired := filepath.Join(dir, "tmp", strings.Repeat("3", 64)+".old")
	clone := filepath.Join(dir, "tmp", "clone-"+strings.Repeat("4", 64))
	for _, left := range []string{ours, retired, clone} {
		require.NoError(t, os.Mkdir(left, 0o700))
	}

	c := openCache(t, dir, 0)
	for _, sub := range foreign {
		require.DirExists(t, filepath.Join(dir, sub))
	}
	for _, left := range []string{ours, retired, clone} {
		require.NoDirExists(t, left)
	}
	clones, err := c.Clones()
	require.NoError(t, err)
	require.Empty(t, clones, "a clone's directory says what it was made of")
	items, err := c.List()
	require.NoError(t, err)
	require.Empty(t, items)
}

// TestDirectoryOfAnEarlierVersion has no marker yet; it is known by its layout, once.
func TestDirectoryOfAnEarlierVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	for _, sub := range []string{"snapshots", "clones", "locks"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o700))
	}
	_, err := cache.Open(dir, 0)
	require.ErrorIs(t, err, owned.ErrForeign, "not quite the layout")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	_, err = cache.Look(dir)
	require.NoError(t, err)
	openCache(t, dir, 0)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "other"), 0o700))
	openCache(t, dir, 0)
}

func TestLook(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	_, err := cache.Look(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = os.Lstat(dir)
	require.True(t, errors.Is(err, fs.ErrNotExist), "looking makes nothing")
}
