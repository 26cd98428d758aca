package ociruntime

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestScanLeavesMountsOut(t *testing.T) {
	dir, err := os.MkdirTemp("/srv", "scan-") // on the root's file system; /tmp may be a mount of its own
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	for _, d := range []string{"plain", "above/mount", "above/beside", "above/strange\nname"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	app := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs "$0/above/mount" && touch "$0/above/mount/file" && echo mounted && exec sleep 100`, dir)
	out, err := app.StdoutPipe()
	require.NoError(t, err)
	app.Stderr = os.Stderr
	require.NoError(t, app.Start())
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)

	var root, mounted unix.Stat_t
	inside := filepath.Join("/proc", fmt.Sprint(app.Process.Pid), "root", dir)
	require.NoError(t, unix.Stat(inside, &root))
	require.NoError(t, unix.Stat(filepath.Join(inside, "above/mount"), &mounted))

	paths, err := scanned(app.Process.Pid, []uint64{root.Dev})
	require.NoError(t, err)
	at := func(name string) int { return slices.Index(paths, filepath.Join(dir, name)) }
	require.NotEqual(t, -1, at("plain"))
	require.NotEqual(t, -1, at("above/beside"))
	require.Equal(t, -1, at("above/mount"), "nothing is watched there")
	require.Equal(t, -1, at("above/strange\nname"), "it would be options of CRIU's")
	require.Greater(t, at("above"), at("above/beside"), "the mount is below it")
	require.Greater(t, at("above"), at("plain"))

	paths, err = scanned(app.Process.Pid, []uint64{root.Dev, mounted.Dev})
	require.NoError(t, err)
	require.NotEqual(t, -1, at("above/mount"))
}

func TestWatchedDevices(t *testing.T) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.Empty(t, watchedDevices([]int{os.Getpid()}))
	dir := t.TempDir()
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE)
	require.NoError(t, err)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(dir, &st))
	const ended = 1 << 30
	require.Equal(t, []uint64{st.Dev}, watchedDevices([]int{ended, os.Getpid()}))
}
