package build

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWorkDirIsOwnedForAsLongAsItsBuildLives(t *testing.T) {
	parent, err := kind.Make(filepath.Join(t.TempDir(), "not", "there", "yet"))
	require.NoError(t, err)
	w, err := newWorkDir(parent)
	require.NoError(t, err)
	sweeper := workDir{dir: w.dir}
	locked, err := sweeper.lock()
	require.NoError(t, err)
	require.False(t, locked)

	require.NoError(t, w.held.Close()) // as the kernel does when the build is killed
	locked, err = sweeper.lock()
	require.NoError(t, err)
	require.True(t, locked)
	require.NoError(t, sweeper.held.Close())

	require.NoError(t, os.Remove(w.dir))
	locked, err = sweeper.lock()
	require.NoError(t, err)
	require.False(t, locked, "removed by another sweeper")
}

func TestLayerOfADonor(t *testing.T) {
	upper, file := t.TempDir(), filepath.Join(t.TempDir(), "rootfs.tar")
	name, _, err := captureLayer(upper, file)
	require.NoError(t, err)
	require.Empty(t, name, "nothing was written")

	require.NoError(t, os.Mkdir(upper+"/etc", 0o755))
	require.NoError(t, os.WriteFile(upper+"/etc/written", []byte("content"), 0o640))
	require.NoError(t, os.Symlink("written", upper+"/etc/link"))
	require.NoError(t, unix.Mknod(upper+"/etc/removed", unix.S_IFCHR, 0)) // overlayfs's whiteout
	require.NoError(t, os.Mkdir(upper+"/replaced", 0o700))
	require.NoError(t, unix.Setxattr(upper+"/replaced", "trusted.overlay.opaque", []byte("y"), 0))

	name, _, err = captureLayer(upper, file)
	require.NoError(t, err)
	require.Equal(t, file, name)
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	got := map[string]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got[h.Name] = h.Typeflag
	}
	require.Equal(t, map[string]byte{
		"etc/": tar.TypeDir, "etc/written": tar.TypeReg, "etc/link": tar.TypeSymlink, "etc/.wh.removed": tar.TypeReg,
		"replaced/": tar.TypeDir, "replaced/.wh..wh..opq": tar.TypeReg,
	}, got, "as an OCI layer")
}

// TestLayerWithSockets: an archive has no place for sockets, and its maker is told which they are.
func TestLayerWithSockets(t *testing.T) {
	upper, file := t.TempDir(), filepath.Join(t.TempDir(), "rootfs.tar")
	require.NoError(t, os.WriteFile(upper+"/file", nil, 0o600))
	require.NoError(t, unix.Mknod(upper+"/[odd*name]", unix.S_IFSOCK|0o600, 0))
	name, sockets, err := captureLayer(upper, file)
	require.NoError(t, err)
	require.Equal(t, file, name)
	require.Equal(t, []string{"/[odd*name]"}, sockets)
}

// TestLayerThatCannotBeRead: a file of /sys says that it has a page, and has less. What could not be read as a whole must not be
// published.
func TestLayerThatCannotBeRead(t *testing.T) {
	for _, place := range []string{"first", "zlast"} {
		upper, file := t.TempDir(), filepath.Join(t.TempDir(), "rootfs.tar")
		require.NoError(t, os.WriteFile(upper+"/middle", []byte("content"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(upper, place), nil, 0o600))
		require.NoError(t, unix.Mount("/sys/kernel/mm/transparent_hugepage/enabled", filepath.Join(upper, place), "", unix.MS_BIND, ""))
		t.Cleanup(func() { require.NoError(t, unix.Unmount(filepath.Join(upper, place), 0)) })
		_, _, err := captureLayer(upper, file)
		require.ErrorContains(t, err, "container layer", place)
	}
}
