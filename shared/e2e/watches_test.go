package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestWatches: the kernel names by its inode what an app watches (inotify), and CRIU can't open an inode of the container's disk. A directory
// whose name would be an option of CRIU's is not looked at.
func TestWatches(t *testing.T) {
	l := newLab(t)
	dirs := []string{"/srv/watched", "/srv/watched/below", "/srv/deep/er", "/dev/shm/watched"}
	spec := l.ruby(`require "fiddle"; require "fileutils"; $stdout.sync = true
FileUtils.mkdir_p(["/srv/watched/below", "/srv/deep/er", "/dev/shm/watched", "/a\ntcp-established"])
call = ->(name, *types) { Fiddle::Function.new(Fiddle.dlopen(nil)[name], types, Fiddle::TYPE_INT) }
fd = call["inotify_init"].()
add = call["inotify_add_watch", Fiddle::TYPE_INT, Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT]
ARGV.each { |path| add.(fd, path, File.directory?(path) ? 0x100 : 0x20) > 0 or abort "can't watch #{path}" }
puts "up"; io = IO.for_fd(fd)
loop { watch, * = io.readpartial(4096).unpack("iIII"); puts ARGV[watch - 1] }`, append(slices.Clone(dirs), "/etc/debian_version")...)
	l.build(spec, up)
	for range 2 {
		r := l.run(spec, restore.PolicyAlways)
		events := func() int { return len(strings.Fields(l.logs(r.ContainerID))) }
		for i, dir := range dirs {
			require.NoError(t, l.eng.Exec(l.ctx, r.ContainerID, []string{"touch", dir + "/file"}))
			l.eventually(func() bool { return events() == i+1 }, "an event of "+dir)
		}
		require.NoError(t, l.eng.Exec(l.ctx, r.ContainerID, []string{"cat", "/etc/debian_version"}))
		l.eventually(func() bool { return events() > len(dirs) }, "an event of a file of the image")
		require.Equal(t, append(slices.Clone(dirs), "/etc/debian_version"), strings.Fields(l.logs(r.ContainerID))[:len(dirs)+1])
	}
}
