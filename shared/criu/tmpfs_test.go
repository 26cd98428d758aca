package criu

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDropEmptyTmpfs(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, entries ...string) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		require.NoError(t, err)
		z := gzip.NewWriter(f)
		w := tar.NewWriter(z)
		for _, e := range entries {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: e, Typeflag: tar.TypeDir, Mode: 0o755}))
		}
		require.NoError(t, w.Close())
		require.NoError(t, z.Close())
		require.NoError(t, f.Close())
		return path
	}
	empty, none := write("tmpfs-dev-60.tar.gz.img", "./"), write("tmpfs-dev-61.tar.gz.img")
	full := write("tmpfs-dev-56.tar.gz.img", "./", "./shm/")
	require.NoError(t, DropEmptyTmpfs(dir))
	require.NoFileExists(t, empty)
	require.NoFileExists(t, none)
	require.FileExists(t, full)

	broken := filepath.Join(dir, "tmpfs-dev-1.tar.gz.img")
	require.NoError(t, os.WriteFile(broken, []byte("no archive"), 0o600))
	require.ErrorContains(t, DropEmptyTmpfs(dir), broken)
}
