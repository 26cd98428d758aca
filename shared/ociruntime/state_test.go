package ociruntime

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// newContainer is a container in a run directory of its own.
func newContainer(t *testing.T) container {
	t.Helper()
	c := container{run: RunDir(t.TempDir()), id: "0123456789abcdef"}
	require.NoError(t, c.reset())
	return c
}

func TestRequestStaysUntilItIsForgotten(t *testing.T) {
	c := newContainer(t)
	_, err := c.run.ReadRequest(c.id)
	require.ErrorIs(t, err, os.ErrNotExist)

	want := Request{Kind: KindClone, Engine: "unix:///run/docker.sock", CheckpointDir: "/images", Options: criu.DefaultOptions()}
	require.NoError(t, c.run.WriteRequest(c.id, want))
	got, err := c.run.ReadRequest(c.id)
	require.NoError(t, err)
	require.Equal(t, want, got)
	ids, err := c.run.Requests()
	require.NoError(t, err)
	require.Equal(t, []string{c.id}, ids)
	info, err := os.Stat(c.run.requestFile(c.id))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "root's only")

	require.NoError(t, c.run.Forget(c.id))
	require.NoError(t, c.run.Forget(c.id), "twice is as good as once")
	require.NoDirExists(t, c.run.stateDir(c.id))
	_, err = c.run.ReadRequest(c.id)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRequestThatCannotBeReadIsAnError(t *testing.T) {
	c := newContainer(t)
	require.NoError(t, c.run.WriteRequest(c.id, Request{}))
	require.NoError(t, os.WriteFile(c.run.requestFile(c.id), []byte("{"), 0o600))
	_, err := c.run.ReadRequest(c.id)
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorContains(t, err, c.id+".json", "a damaged request must not let the container boot cold, unseen")
}

func TestNothingOfAnEarlierStartIsLeft(t *testing.T) {
	c := newContainer(t)
	c.noteError(errors.New("of the earlier start"))
	require.NoError(t, c.writeTask(os.Getpid()))
	require.NoError(t, c.reset())
	report, err := c.run.ReadReport(c.id)
	require.NoError(t, err)
	require.Empty(t, report)
	require.ErrorContains(t, c.killTask(), "container does not exist")
}

func TestKillTaskKnowsPidsThatAreReused(t *testing.T) {
	c := newContainer(t)
	require.NoError(t, writeJSON(c.path(taskName), task{Pid: os.Getpid(), Started: 1}))
	require.ErrorContains(t, c.killTask(), "no such process")
}

func TestCRIUsFirstErrorIsReported(t *testing.T) {
	c := newContainer(t)
	runcs := errors.New("exit status 1")
	require.Equal(t, runcs, c.explain(restoreLog, runcs), "there is no log")

	require.NoError(t, os.Mkdir(c.path(workName), 0o700))
	log := "(00.1) Restoring\n(00.2)      1: Error (criu/files-reg.c:2221): File www/x has bad size 3 (expect 5)\n(00.3) Error (criu/cr-restore.c:2331): Restoring FAILED.\n"
	require.NoError(t, os.WriteFile(filepath.Join(c.path(workName), restoreLog), []byte(log), 0o600))
	var failure *criu.Failure
	require.ErrorAs(t, c.explain(restoreLog, runcs), &failure)
	require.Contains(t, failure.Line, "bad size 3")
	require.NotEmpty(t, failure.Remedy)
	report, err := c.run.ReadReport(c.id)
	require.NoError(t, err)
	require.Equal(t, failure, report.Failure)
}

// What is mounted below a container's directory must survive the directory's removal.
func TestNothingIsRemovedThroughAMount(t *testing.T) {
	c := newContainer(t)
	precious := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(precious, "file"), nil, 0o600))
	yard := filepath.Join(c.path(workName), ".criu.cgyard.XXXXXX")
	for _, dir := range []string{yard, filepath.Join(yard, "inner")} {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, unix.Mount(precious, dir, "", unix.MS_BIND, ""))
		require.NoError(t, os.MkdirAll(filepath.Join(precious, "inner"), 0o700))
	}
	require.NoError(t, c.run.Forget(c.id))
	require.NoDirExists(t, c.run.stateDir(c.id))
	require.FileExists(t, filepath.Join(precious, "file"))
}

func TestTidyAfterKill(t *testing.T) {
	c := newContainer(t)
	inv := invocation{root: t.TempDir()}
	require.NoError(t, c.tidyAfterKill(inv), "there is nothing to do")

	rootfs, root := t.TempDir(), filepath.Join(inv.root, c.id, "criu-root")
	require.NoError(t, os.MkdirAll(root, 0o700))
	require.NoError(t, unix.Mount(rootfs, root, "", unix.MS_BIND, ""))
	require.NoError(t, os.MkdirAll("/tmp/.criu.mntns.AbCdEf", 0o700))
	require.NoError(t, os.Mkdir(c.path(workName), 0o700))
	log := "(00.1) mnt: \t\tWill mount 179 @ /tmp/.criu.mntns.AbCdEf/mnt-0000000179 /sbin/docker-init\n"
	require.NoError(t, os.WriteFile(filepath.Join(c.path(workName), restoreLog), []byte(log), 0o600))

	require.NoError(t, c.tidyAfterKill(inv))
	require.NoDirExists(t, "/tmp/.criu.mntns.AbCdEf")
	require.ErrorIs(t, unix.Unmount(root, 0), unix.EINVAL, "not mounted any more")
	require.NoError(t, c.tidyAfterKill(inv))
}

func TestNewNetworkNamespaceByPath(t *testing.T) {
	c := newContainer(t)
	sysctl := map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shmmni": "4096"}
	b, err := loadBundle(writeBundle(t, specs.Spec{Linux: &specs.Linux{Sysctl: sysctl, Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace}}}}))
	require.NoError(t, err)
	require.NoError(t, c.givePath(b))
	path, _ := b.network()
	require.Equal(t, c.netnsFile(), path)
	require.NotEqual(t, inode(t, "/proc/self/ns/net"), inode(t, path))

	handle, err := netns.GetFromPath(path)
	require.NoError(t, err)
	defer handle.Close()
	inside, err := netlink.NewHandleAt(handle)
	require.NoError(t, err)
	defer inside.Close()
	lo, err := inside.LinkByName("lo")
	require.NoError(t, err)
	require.NotZero(t, lo.Attrs().RawFlags&unix.IFF_UP, "lo is up")

	// An earlier start that was not cleaned up is in nobody's way.
	before := inode(t, path)
	b.setNetwork("")
	require.NoError(t, c.givePath(b))
	require.NotEqual(t, before, inode(t, path))

	require.NoError(t, c.removeNetns())
	require.NoFileExists(t, path)
	require.NoError(t, c.removeNetns(), "twice is as good as once")
}

func TestNetworkNamespacesOfOthers(t *testing.T) {
	c := newContainer(t)
	given, err := loadBundle(writeBundle(t, specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/proc/1/ns/net"}}}}))
	require.NoError(t, err)
	require.NoError(t, c.givePath(given))
	path, _ := given.network()
	require.Equal(t, "/proc/1/ns/net", path)
	require.NoFileExists(t, c.netnsFile())

	host, err := loadBundle(writeBundle(t, specs.Spec{}))
	require.NoError(t, err)
	require.NoError(t, c.givePath(host))
	path, _ = host.network()
	require.Equal(t, c.netnsFile(), path)
	require.Equal(t, inode(t, "/proc/self/ns/net"), inode(t, path), "the engine's own")
	require.NoError(t, c.removeNetns())
}

func inode(t *testing.T, file string) uint64 {
	t.Helper()
	info, err := os.Stat(file)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}
