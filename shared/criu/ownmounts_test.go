package criu

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWriteMounts(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	frozen := &crit.CriuImage{Magic: "MNTS", EntryType: &mnt.MntEntry{}}
	add := func(dev uint32, fstype mnt.Fstype, root, mountpoint, key, options string) {
		kind, id, parent, flags, source := uint32(fstype), uint32(len(frozen.Entries)), uint32(0), uint32(unix.MS_RELATIME), "s"
		m := &mnt.MntEntry{
			Fstype: &kind, MntId: &id, RootDev: &dev, ParentMntId: &parent, Flags: &flags,
			Root: &root, Mountpoint: &mountpoint, Source: &source, Options: &options,
		}
		if key != "" {
			m.ExtKey = &key
		}
		frozen.Entries = append(frozen.Entries, &crit.CriuEntry{Message: m})
	}
	add(1, mnt.Fstype_TMPFS, "/", "./dev", "", "size=65536k,mode=755")
	add(1, mnt.Fstype_TMPFS, "/null", "./proc/keys", "/dev/null", "size=65536k,mode=755")
	add(2, mnt.Fstype_TMPFS, "/", "./t", "", "size=1m,mode=700")
	add(2, mnt.Fstype_TMPFS, "/sub", "./shown-again", "", "size=1m,mode=700")
	add(3, mnt.Fstype_AUTO, "/a", "./a", "/a", "")
	add(3, mnt.Fstype_AUTO, "/a/b", "./b", "/b", "")
	image := filepath.Join(from, "mountpoints-13.img")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, writeImage(image, frozen))
	before, err := os.ReadFile(image)
	require.NoError(t, err)

	options := "size=2m,mode=777"
	own := []OwnMount{
		{Destination: "/t", Flags: unix.MS_NOEXEC | unix.MS_NOATIME, Tmpfs: &options},
		{Destination: "/a", Flags: unix.MS_RDONLY},
		{Destination: "/b", Flags: unix.MS_RDONLY, Slave: true},
	}
	require.NoError(t, WriteMounts(from, to, own))
	after, err := os.ReadFile(image)
	require.NoError(t, err)
	require.Equal(t, before, after)
	img, err := readImage(filepath.Join(to, "mountpoints-13.img"), &mnt.MntEntry{})
	require.NoError(t, err)
	var m []*mnt.MntEntry
	for _, e := range img.Entries {
		m = append(m, e.Message.(*mnt.MntEntry))
	}
	require.Empty(t, m[1].GetExtKey(), "what is masked shows the container's own /dev/null")
	require.Equal(t, uint32(unix.MS_NOEXEC|unix.MS_NOATIME), m[2].GetFlags())
	require.Equal(t, "mode=700,size=2m", m[2].GetOptions(), "the app may have changed the mode since")
	require.Equal(t, m[2].GetOptions(), m[3].GetOptions(), "it is the same file system")
	for _, i := range []int{4, 5} {
		require.NotZero(t, m[i].GetFlags()&unix.MS_RDONLY)
		require.Zero(t, m[i].GetFlags()&unix.MS_RELATIME)
	}
	require.NotEqual(t, m[4].GetFlags()&^propagation, m[5].GetFlags()&^propagation, "CRIU would not make the second read-only")
	require.Zero(t, m[4].GetMasterId())
	require.NotZero(t, m[5].GetMasterId())
	require.NotZero(t, m[5].GetFlags()&unix.MS_SLAVE)

	require.ErrorContains(t, WriteMounts(from, t.TempDir(), own[:2]), "the snapshot has a mount at /b, which the container does not have")
	require.ErrorContains(t, WriteMounts(from, t.TempDir(), append(own, OwnMount{Destination: "/other"})), "the container mounts /other, where the snapshot has no mount")
	require.ErrorContains(t, WriteMounts(from, t.TempDir(), append(own, OwnMount{Destination: "/t"})), "the mount at /t is of another type")
}
