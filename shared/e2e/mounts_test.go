package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// mounted mounts a tmpfs with flags on a directory of its own and returns it.
func mounted(t *testing.T, flags uintptr) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fs")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, unix.Mount("none", dir, "tmpfs", flags, "size=1m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	require.NoError(t, unix.Mount("", dir, "", unix.MS_PRIVATE, ""))
	require.NoError(t, os.Mkdir(dir+"/sub", 0o755))
	return dir
}

// The donor's mounts come from an ordinary file system, and those of the clones from others.
func TestMountsAreTheClonesOwn(t *testing.T) {
	l := newLab(t)
	spec := func(source, readOnly string, host container.HostConfig) engine.Spec {
		spec := l.spec(tiny, "")
		host.Binds = append(host.Binds, source+":/v")
		for _, target := range []string{"/ro", "/again"} {
			host.Mounts = append(host.Mounts, mount.Mount{
				Type: mount.TypeBind, Source: readOnly, Target: target, ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true},
			})
		}
		spec.Host = &host
		return spec
	}
	plain, beside := t.TempDir(), t.TempDir() // CRIU takes mounts of one directory for each other's
	l.build(spec(plain, beside, container.HostConfig{Binds: []string{plain + ":/s"}, Tmpfs: map[string]string{"/t": "size=1m", "/full": "size=1m"}}), tinyReady)

	t.Run("as those of a container that boots", func(t *testing.T) {
		shared := mounted(t, 0)
		require.NoError(t, unix.Mount("", shared, "", unix.MS_SHARED, ""))
		noexec := mounted(t, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME)
		own := spec(noexec, noexec+"/sub", container.HostConfig{
			Binds:       []string{shared + ":/s:slave"},
			Tmpfs:       map[string]string{"/t": "size=2m,exec,ro", "/full": "nr_inodes=100"},
			ShmSize:     1 << 20,
			OomScoreAdj: 300,
		})
		cold, clone := l.look(l.run(own, restore.PolicyNever).ContainerID), l.run(own, restore.PolicyAlways).ContainerID
		hot := l.look(clone)
		for name, shows := range map[string]string{
			"mount /v": "noexec", "mount /ro": "ro,", "mount /again": "ro,", "mount /s": "master:", "mount /t": "size=2048k", "mount /full": "nr_inodes=100",
			"mount /dev/shm": "size=1024k", "oom_score_adj": "300",
		} {
			require.Contains(t, cold[name], shows, name)
		}
		requireEqualLooks(t, cold, hot)

		// The engine's own starts of the clone are no different, whatever has become of its sources.
		require.NoError(t, unix.Mount("", noexec, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODIRATIME, ""))
		require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, clone, container.StopOptions{Timeout: new(int)}))
		require.Empty(t, l.report(clone).Cold)
		hot = l.look(clone)
		require.Contains(t, hot["mount /v"], " rw,nodiratime")
		for _, name := range []string{"mount /v", "mount /ro", "mount /again"} {
			delete(cold, name)
			delete(hot, name)
		}
		requireEqualLooks(t, cold, hot)
	})
	for name, c := range map[string]struct {
		own    func(t *testing.T) engine.Spec
		reason string
	}{
		"another file system below": {func(t *testing.T) engine.Spec {
			source := mounted(t, 0)
			require.NoError(t, unix.Mount("none", source+"/sub", "tmpfs", 0, ""))
			return spec(source, beside, container.HostConfig{Binds: []string{plain + ":/s"}, Tmpfs: map[string]string{"/t": "", "/full": ""}})
		}, "/sub, which a clone would lack"},
		"shared with the host": {func(t *testing.T) engine.Spec {
			source := mounted(t, 0)
			require.NoError(t, unix.Mount("", source, "", unix.MS_SHARED, ""))
			return spec(plain, beside, container.HostConfig{
				Mounts: []mount.Mount{{Type: mount.TypeBind, Source: source, Target: "/s", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRShared}}},
				Tmpfs:  map[string]string{"/t": "", "/full": ""},
			})
		}, "mount at /s: its propagation is shared"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := l.tryRun(c.own(t), restore.PolicyAlways)
			require.ErrorContains(t, err, c.reason)
		})
	}
	t.Run("a donor with another file system below", func(t *testing.T) {
		source := mounted(t, 0)
		require.NoError(t, unix.Mount("none", source+"/sub", "tmpfs", 0, ""))
		spec := l.spec(tiny, "")
		spec.Host.Binds = []string{source + ":/only"}
		_, err := l.tryBuild(spec, tinyReady, criu.DefaultOptions())
		require.ErrorContains(t, err, "/sub, which a clone would lack")
	})
}
