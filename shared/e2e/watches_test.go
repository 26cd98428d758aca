package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestWatches: the kernel names by its inode what an app watches (inotify), and CRIU can't open an inode of the container's disk. A directory
// whose name would be an option of CRIU's is not looked at.
func TestWatches(t *testing.T) {
	l := newLab(t)
	dirs := []string{"/srv/watched", "/srv/watched/below", "/srv/deep/er", "/dev/shm/watched"}
	spec := l.watcher(append(slices.Clone(dirs), "/etc/debian_version")...)
	l.build(spec, up)
	for range 2 {
		r := l.run(spec, restore.PolicyAlways)
		l.requireEvents(r.ContainerID, dirs)
		require.NoError(t, l.eng.Exec(l.ctx, r.ContainerID, []string{"cat", "/etc/debian_version"}))
		l.eventually(func() bool { return len(strings.Fields(l.logs(r.ContainerID))) > len(dirs) }, "an event of a file of the image")
		require.Equal(t, append(slices.Clone(dirs), "/etc/debian_version"), strings.Fields(l.logs(r.ContainerID))[:len(dirs)+1])
	}
}

// TestWatchesOnMounts: what is watched on a mount from outside is watched by its name, on what each clone has there. Other
// mounts are not searched, whatever is on them.
func TestWatchesOnMounts(t *testing.T) {
	l := newLab(t)
	dirs := []string{"/srv/volume", "/srv/beside", "/volume", "/volume/below", "/zone"}
	mounted := func() engine.Spec {
		spec := l.watcher(dirs...)
		for _, destination := range []string{"/srv/volume", "/volume", "/aaa"} {
			source := t.TempDir()
			require.NoError(t, os.Mkdir(source+"/below", 0o755))
			spec.Host.Binds = append(spec.Host.Binds, source+":"+destination)
		}
		return spec
	}
	spec := mounted()
	l.build(spec, up)
	first := l.run(spec, restore.PolicyAlways)
	second := l.run(mounted(), restore.PolicyAlways)
	l.requireEvents(second.ContainerID, dirs)
	require.Empty(t, strings.Fields(l.logs(first.ContainerID)), "the other clone has mounts of its own")
	l.requireEvents(first.ContainerID, dirs)
}

// watcher is an app that makes and watches directories and files, and writes the path of each that something is made in or read from.
func (l *lab) watcher(paths ...string) engine.Spec {
	return l.ruby(`require "fiddle"; require "fileutils"; $stdout.sync = true
FileUtils.mkdir_p(ARGV.reject { |path| File.exist?(path) } + ["/a\ntcp-established"])
call = ->(name, *types) { Fiddle::Function.new(Fiddle.dlopen(nil)[name], types, Fiddle::TYPE_INT) }
fd = call["inotify_init"].()
add = call["inotify_add_watch", Fiddle::TYPE_INT, Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT]
ARGV.each { |path| add.(fd, path, File.directory?(path) ? 0x100 : 0x20) > 0 or abort "can't watch #{path}" }
puts "up"; io = IO.for_fd(fd)
loop { watch, * = io.readpartial(4096).unpack("iIII"); puts ARGV[watch - 1] }`, paths...)
}

// requireEvents makes a file in each of the directories, one after the other.
func (l *lab) requireEvents(id string, dirs []string) {
	l.Helper()
	for i, dir := range dirs {
		require.NoError(l, l.eng.Exec(l.ctx, id, []string{"touch", dir + "/" + id[:12]}))
		l.eventually(func() bool { return len(strings.Fields(l.logs(id))) == i+1 }, "an event of "+dir)
	}
	require.Equal(l, dirs, strings.Fields(l.logs(id))[:len(dirs)])
}
