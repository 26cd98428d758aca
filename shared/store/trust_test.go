package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/store"
)

// TestDirectoryThatOthersMayWriteTo: writing to a store is choosing which process images are restored.
func TestDirectoryThatOthersMayWriteTo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, which may give files away")
	}
	mkdir := func(t *testing.T, path string, mode os.FileMode, uid int) string {
		require.NoError(t, os.Mkdir(path, 0o755))
		require.NoError(t, os.Chmod(path, mode))
		require.NoError(t, os.Chown(path, uid, 0))
		return path
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string) string // returns the store's address
		says string                                // "" if it is trusted
	}{
		"root's":        {func(t *testing.T, dir string) string { return mkdir(t, dir+"/s", 0o755, 0) }, ""},
		"not there yet": {func(_ *testing.T, dir string) string { return dir + "/not/there" }, ""},
		"in a directory like /tmp": {func(t *testing.T, dir string) string {
			return mkdir(t, mkdir(t, dir+"/tmp", 0o777|os.ModeSticky, 0)+"/s", 0o700, 0)
		}, ""},
		"itself like /tmp":     {func(t *testing.T, dir string) string { return mkdir(t, dir+"/s", 0o777|os.ModeSticky, 0) }, "/s: others may write"},
		"writable by a group":  {func(t *testing.T, dir string) string { return mkdir(t, dir+"/s", 0o775, 0) }, "its mode is 0775"},
		"another user's":       {func(t *testing.T, dir string) string { return mkdir(t, dir+"/s", 0o700, 1234) }, "it belongs to user 1234"},
		"in another user's":    {func(t *testing.T, dir string) string { return mkdir(t, mkdir(t, dir+"/u", 0o755, 1234)+"/s", 0o700, 0) }, "/u: others may write"},
		"not there, in such a": {func(t *testing.T, dir string) string { return mkdir(t, dir+"/u", 0o755, 1234) + "/s" }, "/u: others may write"},
		"in a writable one":    {func(t *testing.T, dir string) string { return mkdir(t, mkdir(t, dir+"/w", 0o777, 0)+"/s", 0o700, 0) }, "/w: others may write"},
		"behind a link": {func(t *testing.T, dir string) string {
			mkdir(t, mkdir(t, dir+"/u", 0o755, 1234)+"/s", 0o700, 0)
			require.NoError(t, os.Symlink("u/s", dir+"/s"))
			return dir + "/s"
		}, "/u: others may write"},
		"behind another's link": {func(t *testing.T, dir string) string {
			mkdir(t, dir+"/real", 0o700, 0)
			mkdir(t, dir+"/tmp", 0o777|os.ModeSticky, 0)
			require.NoError(t, os.Symlink("../real", dir+"/tmp/s"))
			require.NoError(t, os.Lchown(dir+"/tmp/s", 1234, 0))
			return dir + "/tmp/s"
		}, "/tmp/s: others may write"},
	} {
		t.Run(name, func(t *testing.T) {
			address := c.make(t, t.TempDir())
			s, err := store.Open(t.Context(), address)
			if c.says == "" {
				require.NoError(t, err)
				require.NoError(t, s.Close())
				return
			}
			require.ErrorIs(t, err, store.ErrUntrusted)
			require.ErrorContains(t, err, c.says)
			var warning error
			s, err = store.OpenUntrusted(t.Context(), address, func(err error) { warning = err })
			require.NoError(t, err)
			require.ErrorIs(t, warning, store.ErrUntrusted)
			require.NoError(t, putBlob(t, s))
			require.NoError(t, s.Close())
		})
	}
}

// TestStoreThatIsGivenAway while it is open.
func TestStoreThatIsGivenAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := store.Open(t.Context(), dir)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, putBlob(t, s))
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err = s.GetRef(t.Context(), "image/0123/amd64")
	require.ErrorIs(t, err, store.ErrUntrusted)
}

func putBlob(t *testing.T, s store.Store) error {
	content := []byte("content")
	_, err := s.PutBlob(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(content), Size: int64(len(content))}, bytes.NewReader(content))
	return err
}
