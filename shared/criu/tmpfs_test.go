package criu

import (
	"archive/tar"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/stretchr/testify/require"
)

func TestDropEmptyTmpfs(t *testing.T) {
	dir := t.TempDir()
	mounts := &crit.CriuImage{Magic: "MNTS", EntryType: &mnt.MntEntry{}}
	add := func(dev uint32, fstype mnt.Fstype, mountpoint, options string) {
		kind, zero, root, source := uint32(fstype), uint32(0), "/", "tmpfs"
		mounts.Entries = append(mounts.Entries, &crit.CriuEntry{Message: &mnt.MntEntry{
			Fstype: &kind, MntId: &dev, RootDev: &dev, ParentMntId: &zero, Flags: &zero,
			Root: &root, Mountpoint: &mountpoint, Source: &source, Options: &options,
		}})
	}
	add(56, mnt.Fstype_TMPFS, "/dev", "size=65536k,mode=755")
	add(60, mnt.Fstype_TMPFS, "/sys/firmware", "size=0k")
	add(61, mnt.Fstype_TMPFS, "/run", "mode=755,uid=7,gid=8")
	add(62, mnt.Fstype_TMPFS, "/changed", "mode=755")
	add(63, mnt.Fstype_PROC, "/proc", "")
	image := filepath.Join(dir, "mountpoints-13.img")
	other := filepath.Join(dir, "mountpoints-14.img") // of another namespace, with the same mounts
	for _, file := range []string{image, other} {
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.NoError(t, writeImage(file, mounts))
	}

	full := writeArchive(t, dir, "tmpfs-dev-56.tar.gz.img", tar.Header{Name: "./", Mode: 0o755}, tar.Header{Name: "./shm/", Mode: 0o755})
	empty := writeArchive(t, dir, "tmpfs-dev-60.tar.gz.img", tar.Header{Name: "./", Mode: 0o1777})
	owned := writeArchive(t, dir, "tmpfs-dev-61.tar.gz.img", tar.Header{Name: "./", Mode: 0o755, Uid: 7, Gid: 8})
	changed := writeArchive(t, dir, "tmpfs-dev-62.tar.gz.img", tar.Header{Name: "./", Mode: 0o700})

	require.NoError(t, DropEmptyTmpfs(dir))
	require.FileExists(t, full)
	require.NoFileExists(t, empty)
	require.NoFileExists(t, owned)
	require.FileExists(t, changed, "its mode is not what the mount's options make")
	for _, file := range []string{image, other} {
		img, err := readImage(file, &mnt.MntEntry{})
		require.NoError(t, err)
		var kinds []uint32
		for _, e := range img.Entries {
			kinds = append(kinds, e.Message.(*mnt.MntEntry).GetFstype())
		}
		tmpfs, auto := uint32(mnt.Fstype_TMPFS), uint32(mnt.Fstype_AUTO)
		require.Equal(t, []uint32{tmpfs, auto, auto, tmpfs, uint32(mnt.Fstype_PROC)}, kinds, file)
		require.Equal(t, "tmpfs", img.Entries[1].Message.(*mnt.MntEntry).GetFsname())
	}
}

func TestDropEmptyTmpfsRefusesABrokenArchive(t *testing.T) {
	dir := t.TempDir()
	kind, n, s := uint32(mnt.Fstype_TMPFS), uint32(1), "/broken"
	image := filepath.Join(dir, "mountpoints-1.img")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, writeImage(image, &crit.CriuImage{Magic: "MNTS", Entries: []*crit.CriuEntry{{Message: &mnt.MntEntry{
		Fstype: &kind, MntId: &n, RootDev: &n, ParentMntId: &n, Flags: &n, Root: &s, Mountpoint: &s, Source: &s, Options: &s,
	}}}}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tmpfs-dev-1.tar.gz.img"), []byte("no archive"), 0o600))
	require.ErrorContains(t, DropEmptyTmpfs(dir), "/broken")
}

func writeArchive(t *testing.T, dir, name string, entries ...tar.Header) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	for _, e := range entries {
		e.Typeflag = tar.TypeDir
		require.NoError(t, w.WriteHeader(&e))
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
	return path
}
