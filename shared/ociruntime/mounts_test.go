package ociruntime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOwnMounts(t *testing.T) {
	dir := t.TempDir()
	rootfs := filepath.Join(dir, "rootfs")
	require.NoError(t, os.MkdirAll(filepath.Join(rootfs, "run"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(rootfs, "var"), 0o700))
	require.NoError(t, os.Symlink("/run", filepath.Join(rootfs, "var/run")))
	source := filepath.Join(dir, "source")
	require.NoError(t, os.Mkdir(source, 0o700))
	host, err := mountinfo.GetMounts(nil)
	require.NoError(t, err)
	from, err := mountOf(source, host)
	require.NoError(t, err)

	// The source's own mount is as it is on this machine; what it would be elsewhere is set.
	set := func(options, optional string) { from.Options, from.Optional = options, optional }
	mount := func(kind, destination string, options ...string) specs.Mount {
		return specs.Mount{Type: kind, Source: source, Destination: destination, Options: options}
	}
	for name, c := range map[string]struct {
		source, sharing string
		mount           specs.Mount
		flags           uintptr
		slave           bool
	}{
		"the source's":                            {"rw,nosuid,noexec,noatime", "", mount("bind", "/v", "rbind", "rprivate"), unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME, false},
		"strict access times":                     {"rw", "", mount("bind", "/v", "rbind"), unix.MS_STRICTATIME, false},
		"what is asked for replaces them":         {"rw,nosuid,relatime", "", mount("bind", "/v", "rbind", "ro"), unix.MS_RDONLY, false},
		"what is asked for recursively adds":      {"rw,nosuid,relatime", "", mount("bind", "/v", "rbind", "rro"), unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_RELATIME, false},
		"a slave of a shared mount":               {"rw,relatime", "shared:7", mount("bind", "/v", "rbind", "rslave"), unix.MS_RELATIME, true},
		"a slave of a private mount":              {"rw,relatime", "", mount("bind", "/v", "rbind", "slave"), unix.MS_RELATIME, false},
		"one of a shared mount that says nothing": {"rw,relatime", "shared:7", mount("bind", "/v", "rbind"), unix.MS_RELATIME, true},
		"a private one of a shared mount":         {"rw,relatime", "shared:7", mount("bind", "/v", "bind", "private"), unix.MS_RELATIME, false},
		"a tmpfs":                                 {"rw", "", mount("tmpfs", "/v", "nosuid", "noexec", "exec", "size=1m"), unix.MS_NOSUID | unix.MS_RELATIME, false},
		"a tmpfs with strict access times":        {"rw", "", mount("tmpfs", "/v", "strictatime"), unix.MS_STRICTATIME, false},
	} {
		t.Run(name, func(t *testing.T) {
			set(c.source, c.sharing)
			b := &bundle{dir: dir, spec: specs.Spec{Root: &specs.Root{Path: "rootfs"}, Mounts: []specs.Mount{
				{Type: "proc", Destination: "/proc"}, mount("bind", "/v", "rbind", "noexec"), c.mount,
			}}}
			own, err := b.ownMounts(host)
			require.NoError(t, err)
			require.Len(t, own, 1, "the later of two at one place")
			require.Equal(t, "/v", own[0].Destination)
			require.Equal(t, c.flags, own[0].Flags)
			require.Equal(t, c.slave, own[0].Slave)
			require.Equal(t, c.mount.Type == "tmpfs", own[0].Tmpfs != nil)
		})
	}
	refused := func(m specs.Mount) error {
		_, err := (&bundle{dir: dir, spec: specs.Spec{Root: &specs.Root{Path: "rootfs"}, Mounts: []specs.Mount{m}}}).ownMounts(host)
		return err
	}
	set("rw", "shared:7")
	require.ErrorIs(t, refused(mount("bind", "/v", "rbind", "rshared")), errShared)
	require.ErrorContains(t, refused(mount("bind", "/v", "rbind", "unbindable")), "use slave or private")
	below := &mountinfo.Info{ID: -1, Parent: from.ID, Mountpoint: source + "/below"}
	host = append(host, below, &mountinfo.Info{ID: -2, Parent: from.ID, Mountpoint: source + "-of-another"})
	require.ErrorContains(t, refused(mount("bind", "/v", "rbind")), source+"/below, which a clone would lack")
	require.NoError(t, refused(mount("bind", "/v", "bind")))
	below.Mountpoint = "/elsewhere"
	require.NoError(t, refused(mount("bind", "/v", "rbind")))

	own, err := (&bundle{dir: dir, spec: specs.Spec{Root: &specs.Root{Path: "rootfs"}, Mounts: []specs.Mount{mount("bind", "/var/run/x")}}}).ownMounts(host)
	require.NoError(t, err)
	require.Equal(t, "/run/x", own[0].Destination, "as the kernel sees it")
}
