package criu_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// testdata/checkpoint holds the images, without memory pages, that CRIU 4.2.1 made of testdata/frozen in a container.
const checkpoint = "testdata/checkpoint"

func TestInspect(t *testing.T) {
	got, err := criu.Inspect(checkpoint)
	require.NoError(t, err)

	require.Len(t, got.Processes, 1)
	root := got.Processes[0]
	require.Equal(t, uint32(1), root.PID)
	require.Equal(t, "frozen", root.Command)
	require.Len(t, root.Children, 1)
	require.Equal(t, uint32(12), root.Children[0].PID)
	require.Equal(t, int64(got.Stats.PagesWritten)*4096, root.RSS+root.Children[0].RSS)

	require.Contains(t, got.Files, criu.OpenFile{PID: 1, FD: "cwd", Type: "reg", Path: "/"})
	require.Contains(t, got.Files, criu.OpenFile{PID: 12, FD: "0", Type: "reg", Path: "/dev/null"})
	var paths, types []string
	for _, file := range got.Files {
		paths, types = append(paths, file.Path), append(types, file.Type)
	}
	require.Contains(t, paths, "/tmp/state")
	require.Contains(t, types, "pipe")
	require.Contains(t, types, "eventpoll")

	require.True(t, got.Established)
	for _, want := range []criu.Socket{
		{PID: 1, Protocol: "tcp", State: "LISTEN", Source: "127.0.0.1:8080"},
		{PID: 1, Protocol: "tcp", State: "LISTEN", Source: "[::1]:8081"},
		{PID: 1, Protocol: "udp", State: "CLOSE", Source: "0.0.0.0:5353"},
		{PID: 1, Protocol: "unix", State: "LISTEN", Source: "/tmp/app.sock"},
		{PID: 1, Protocol: "unix", State: "LISTEN", Source: "@abstract"},
	} {
		require.Contains(t, got.Sockets, want)
	}
	connections := map[string]string{} // from → to
	for _, socket := range got.Sockets {
		if socket.State == "ESTABLISHED" {
			connections[socket.Source] = socket.Dest
		}
	}
	require.Len(t, connections, 4)
	for from, to := range connections {
		require.Equal(t, from, connections[to], "both ends of every connection are inside")
	}

	require.Positive(t, got.Stats.Frozen)
	require.Greater(t, got.Stats.PagesScanned, got.Stats.PagesWritten)
}

func TestInspectWhileOthersInspect(t *testing.T) {
	other := copyCheckpoint(t)
	require.NoError(t, os.Remove(filepath.Join(other, "stats-dump")))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for _, dir := range []string{checkpoint, other} {
				got, err := criu.Inspect(dir)
				if err != nil || len(got.Sockets) == 0 || (got.Stats == criu.DumpStats{}) != (dir == other) {
					t.Errorf("%s: %+v, %v", dir, got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestInspectRefuses(t *testing.T) {
	_, err := criu.Inspect(filepath.Join(t.TempDir(), "gone"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, name := range []string{"pstree.img", "core-12.img", "fdinfo-2.img", "files.img", "fs-1.img", "ids-1.img", "pagemap-1.img"} {
		dir := copyCheckpoint(t)
		path := filepath.Join(dir, name)
		require.NoError(t, os.Remove(path))
		_, err := criu.Inspect(dir)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
		require.ErrorContains(t, err, name)
		for _, content := range []string{"", "\x00", "\x19\x43\x56\x54\x00\x00\x00\x00", "not an image at all"} {
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
			_, err := criu.Inspect(dir)
			require.ErrorContains(t, err, name)
		}
		whole, err := os.ReadFile(filepath.Join(checkpoint, "utsns-12.img"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, whole, 0o600))
		_, err = criu.Inspect(dir)
		require.ErrorContains(t, err, name, "an image of another kind")
	}
}

func copyCheckpoint(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, os.CopyFS(dir, os.DirFS(checkpoint)))
	return dir
}

func TestInspectMounts(t *testing.T) {
	dir := copyCheckpoint(t)
	got, err := criu.Inspect(dir)
	require.NoError(t, err)
	require.Empty(t, got.Mounts, "it was frozen in its host's mount namespace")

	writeMounts(t, filepath.Join(dir, "mountpoints-13.img"),
		&mnt.MntEntry{Mountpoint: proto.String("./proc/sys"), Fstype: proto.Uint32(uint32(mnt.Fstype_PROC)), Flags: proto.Uint32(unix.MS_RDONLY | unix.MS_NOSUID)},
		&mnt.MntEntry{Mountpoint: proto.String("/"), Fstype: proto.Uint32(uint32(mnt.Fstype_OVERLAYFS)), Flags: proto.Uint32(0)},
		&mnt.MntEntry{Mountpoint: proto.String("./data"), Fstype: proto.Uint32(uint32(mnt.Fstype_UNSUPPORTED)), Flags: proto.Uint32(0), ExtKey: proto.String("/data")},
		&mnt.MntEntry{Mountpoint: proto.String("./run"), Fstype: proto.Uint32(uint32(mnt.Fstype_AUTO)), Fsname: proto.String("tmpfs"), Flags: proto.Uint32(0)},
	)
	got, err = criu.Inspect(dir)
	require.NoError(t, err)
	require.Equal(t, []criu.Mount{
		{Destination: "/", Type: "overlayfs"},
		{Destination: "/data", External: true},
		{Destination: "/proc/sys", Type: "proc", ReadOnly: true},
		{Destination: "/run", Type: "tmpfs"},
	}, got.Mounts)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mountpoints-14.img"), []byte("not an image"), 0o600))
	_, err = criu.Inspect(dir)
	require.ErrorContains(t, err, "mountpoints-14.img")
}

func writeMounts(t *testing.T, path string, mounts ...*mnt.MntEntry) {
	t.Helper()
	img := &crit.CriuImage{Magic: "MNTS", EntryType: &mnt.MntEntry{}}
	for i, m := range mounts {
		m.MntId, m.RootDev, m.ParentMntId = proto.Uint32(uint32(i)), proto.Uint32(0), proto.Uint32(0)
		m.Root, m.Source, m.Options = proto.String("/"), proto.String("none"), proto.String("")
		img.Entries = append(img.Entries, &crit.CriuEntry{Message: m})
	}
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, crit.New(nil, f, "", false, false).Encode(img))
	require.NoError(t, f.Close())
}
