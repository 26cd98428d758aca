package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// holder works in a directory of a volume, writes to a log there, and has another file mapped. It says what it reads.
const holder = `require "fiddle"; $stdout.sync = true; File.umask(0)
Dir.mkdir("/v/log", 0750); Dir.mkdir("/v/log/deep", 01770); Dir.chdir("/v/log/deep")
log = File.open("/v/log/app.log", File::RDWR | File::APPEND | File::CREAT, 0640); log.syswrite("booted\n")
File.write("/v/mapped", "mapped".ljust(4096, ".")); File.chmod(0604, "/v/mapped")
state = File.open("/v/mapped", "r+")
mmap = Fiddle::Function.new(Fiddle::Handle::DEFAULT["mmap"], [Fiddle::TYPE_VOIDP, Fiddle::TYPE_SIZE_T, *[Fiddle::TYPE_INT] * 3, Fiddle::TYPE_LONG], Fiddle::TYPE_VOIDP)
map = mmap.call(nil, 4096, 3, 1, state.fileno, 0); map.size = 4096
trap("USR1") { log.syswrite("again\n"); map[0, 6] = "MAPPED"; File.write("here", "") ; $stdout.syswrite("#{map[0, 6]} #{Dir.pwd}\n") }
puts "up"; loop { sleep 1 }`

// volume makes a volume and returns its directory; it is gone after the test, when its containers are.
func (l *lab) volume(owner int) string {
	l.Helper()
	v, err := l.eng.Client.VolumeCreate(l.ctx, volume.CreateOptions{})
	require.NoError(l, err)
	l.Cleanup(func() {
		l.removeContainers()
		require.NoError(l, l.eng.Client.VolumeRemove(context.Background(), v.Name, true))
	})
	require.NoError(l, os.Chown(v.Mountpoint, owner, owner))
	return v.Mountpoint
}

func (l *lab) holds(script, source string) engine.Spec {
	spec := l.ruby(script)
	spec.Config.User = "1000:1000"
	spec.Host.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: source, Target: "/v"}}
	if source != "" && strings.HasSuffix(source, "/_data") {
		spec.Host.Mounts[0].Type, spec.Host.Mounts[0].Source = mount.TypeVolume, filepath.Base(filepath.Dir(source))
		spec.Host.Mounts[0].VolumeOptions = &mount.VolumeOptions{NoCopy: true}
	}
	return spec
}

// tree lists what is in a directory of this host.
func tree(t *testing.T, dir string) (list []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		require.NoError(t, err)
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %s %d:%d", strings.TrimPrefix(name, dir), info.Mode(), st.Uid, st.Gid)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(name)
			require.NoError(t, err)
			line += fmt.Sprintf(" %q", strings.TrimRight(string(content), "."))
		}
		list = append(list, line)
		return nil
	}))
	return list
}

var held = []string{
	`/log drwxr-x--- 1000:1000`,
	`/log/app.log -rw-r----- 1000:1000 "booted\n"`,
	`/log/deep dtrwxrwx--- 1000:1000`,
	`/mapped -rw----r-- 1000:1000 "mapped"`,
}

// TestFilesOnMounts: what an app holds open on a mount is put on those of its clones.
func TestFilesOnMounts(t *testing.T) {
	l := newLab(t)
	donor := l.volume(1000)
	built := l.build(l.holds(holder, donor), up)
	require.NotContains(t, strings.Join(built.Warnings, "\n"), "held by the app")
	require.Equal(t, held, tree(t, donor))
	require.Equal(t, []criu.MountFile{{Path: "/v/log/app.log", Mount: "/v"}, {Path: "/v/log/deep", Mount: "/v"}, {Path: "/v/mapped", Mount: "/v"}}, built.Config.KeptFiles)

	goesOn := func(id string) {
		require.NoError(t, l.eng.Client.ContainerKill(l.ctx, id, "USR1"))
		l.eventually(func() bool { return l.logs(id) == "MAPPED /v/log/deep" }, "it uses all of its files")
	}
	used := []string{held[0], `/log/app.log -rw-r----- 1000:1000 "booted\nagain\n"`, held[2], `/log/deep/here -rw-rw-rw- 1000:1000 ""`, `/mapped -rw----r-- 1000:1000 "MAPPED"`}

	t.Run("a new volume", func(t *testing.T) {
		v := l.volume(1000)
		r := l.run(l.holds(holder, v), restore.PolicyAlways)
		require.Equal(t, held, tree(t, v))
		mapped, err := os.Stat(filepath.Join(v, "mapped"))
		require.NoError(t, err)
		original, err := os.Stat(filepath.Join(donor, "mapped"))
		require.NoError(t, err)
		require.Equal(t, original.ModTime(), mapped.ModTime())
		goesOn(r.ContainerID)
		require.Equal(t, used, tree(t, v))
		require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, r.ContainerID, container.StopOptions{Timeout: new(int)}))
		require.Empty(t, l.report(r.ContainerID).Cold)
		require.NoError(t, restore.Remove(l.ctx, l.eng, l.cache, r.ContainerID))
		require.Equal(t, used, tree(t, v), "what a clone had stays")
	})
	t.Run("one that has them", func(t *testing.T) {
		v := l.volume(1000)
		require.NoError(t, os.Mkdir(filepath.Join(v, "log"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(v, "mapped"), []byte(strings.Repeat("x", 4096)), 0o600))
		require.NoError(t, os.Chmod(filepath.Join(v, "mapped"), 0o604))
		for _, name := range []string{"log", "mapped"} {
			require.NoError(t, os.Chown(filepath.Join(v, name), 1000, 1000))
		}
		before := tree(t, v)
		l.run(l.holds(holder, v), restore.PolicyAlways)
		after := tree(t, v)
		require.Subset(t, after, before)
		require.Len(t, after, len(held))
	})
	t.Run("two at once on one", func(t *testing.T) {
		v := l.volume(1000)
		var g errgroup.Group
		ids := make([]string, 2)
		for i := range ids {
			g.Go(func() error {
				r, err := l.tryRun(l.holds(holder, v), restore.PolicyAlways)
				if err == nil {
					ids[i] = r.ContainerID
				}
				return err
			})
		}
		require.NoError(t, g.Wait())
		require.Equal(t, held, tree(t, v))
		goesOn(ids[0])
		goesOn(ids[1])
		l.run(l.holds(holder, v), restore.PolicyAlways) // the log has grown, which is for appending only
	})
	t.Run("a start that fails", func(t *testing.T) {
		v := l.volume(1000)
		require.NoError(t, os.Mkdir(filepath.Join(v, "log"), 0o711))
		require.NoError(t, os.WriteFile(filepath.Join(v, "mapped"), []byte("of another size"), 0o644))
		before := tree(t, v)
		_, err := l.tryRun(l.holds(holder, v), restore.PolicyAlways)
		require.ErrorContains(t, err, "v/mapped")
		require.Equal(t, before, tree(t, v))

		spec := l.holds(holder, v)
		r := l.run(spec, restore.PolicyIfPresent)
		require.Equal(t, restore.Cold, r.Start)
		require.NoError(t, l.eng.WaitStopped(l.ctx, r.ContainerID), "log was there, and so it can't make it")
		require.Equal(t, before, tree(t, v))
	})
	t.Run("a restart that fails", func(t *testing.T) {
		v := l.volume(1000)
		r := l.run(l.holds(holder, v), restore.PolicyIfPresent)
		require.Empty(t, r.Reason)
		require.NoError(t, l.eng.Client.ContainerStop(l.ctx, r.ContainerID, container.StopOptions{Timeout: new(int)}))
		for _, name := range []string{"log", "mapped"} {
			require.NoError(t, os.RemoveAll(filepath.Join(v, name)))
		}
		l.takeImage(r.ContainerID)
		require.NoError(t, l.eng.Client.ContainerStart(l.ctx, r.ContainerID, container.StartOptions{}))
		require.NotEmpty(t, l.report(r.ContainerID).Cold)
		l.eventually(func() bool { return strings.HasSuffix(l.logs(r.ContainerID), "up") }, "it could make all that it makes in an empty volume")
		require.Equal(t, held, tree(t, v))
	})
}

// TestFilesOnOtherVolumes: on volumes that each container has of its own, its profile's too, and on parts of volumes, which the engine mounts
// elsewhere for the start only.
func TestFilesOnOtherVolumes(t *testing.T) {
	l := newLab(t)
	whole := l.volume(0)
	parts := 0
	spec := func() engine.Spec {
		parts++
		part := fmt.Sprintf("part%d", parts)
		require.NoError(t, os.Mkdir(filepath.Join(whole, part), 0o755))
		s := l.spec(tiny, "mkdir /own/d || exit 5; exec 5>>/own/d/log 6<>/part/state; echo own >&5; echo part >&6; "+signalled)
		s.Host.Mounts = []mount.Mount{
			{Type: mount.TypeVolume, Target: "/own", VolumeOptions: &mount.VolumeOptions{}},
			{Type: mount.TypeVolume, Source: filepath.Base(filepath.Dir(whole)), Target: "/part", VolumeOptions: &mount.VolumeOptions{Subpath: part}},
		}
		return s
	}
	l.build(spec(), counted)
	r := l.run(spec(), restore.PolicyAlways)
	require.Equal(t, "own\npart", l.sh(r.ContainerID, "cat /own/d/log /part/state"))
	require.Equal(t, []string{`/state -rw-r--r-- 0:0 "part\n"`}, tree(t, filepath.Join(whole, fmt.Sprintf("part%d", parts))))

	killed := l.killDuringNextRestore(victims["supervisor"], 0)
	_, err := l.tryRun(spec(), restore.PolicyAlways)
	require.True(t, <-killed)
	require.Error(t, err)
	require.Empty(t, tree(t, filepath.Join(whole, fmt.Sprintf("part%d", parts))))
}

// TestFilesOnMountsOfStartsThatAreKilled: whichever process is killed, the mount is as it was, or the clone runs and has its files.
func TestFilesOnMountsOfStartsThatAreKilled(t *testing.T) {
	l := newLab(t)
	random := randomPoints(t)
	script := "mkdir /v/a || exit 5; cd /v/a; exec 5>>log 6<>/v/state; " + heavy
	spec := func(source string) engine.Spec {
		s := l.spec(tiny, script)
		s.Host.Binds = []string{source + ":/v"}
		return s
	}
	l.build(spec(t.TempDir()), counted)
	undisturbed := l.run(spec(t.TempDir()), restore.PolicyAlways)
	var life time.Duration
	for _, step := range undisturbed.Report.Steps {
		life += step.Elapsed
	}
	l.filled(undisturbed.ContainerID)
	l.removeContainer(undisturbed)
	n := 0
	for range rounds(3) {
		for _, victim := range slices.Sorted(maps.Keys(victims)) {
			v, policy := t.TempDir(), []restore.Policy{restore.PolicyIfPresent, restore.PolicyAlways}[n%2]
			n++
			after := time.Duration(random.Int64N(int64(life + life/5)))
			killed := l.killDuringNextRestore(victims[victim], after)
			r, err := l.tryRun(spec(v), policy)
			t.Logf("%s, %s killed (%t) after %s: %s", policy, victim, <-killed, after, outcome(r, err))
			if err != nil {
				require.Equal(t, restore.PolicyAlways, policy, err)
				require.Empty(t, tree(t, v))
			} else {
				l.worksOrIsLost(r)
				require.Equal(t, []string{"/a drwxr-xr-x 0:0", `/a/log -rw-r--r-- 0:0 ""`, `/state -rw-r--r-- 0:0 ""`}, tree(t, v))
				l.removeContainer(r)
			}
			l.nothingIsLeft()
		}
	}
}

// TestFilesOnMountsThatAreNotKept are told by the build.
func TestFilesOnMountsThatAreNotKept(t *testing.T) {
	l := newLab(t)
	v, ro := l.volume(1000), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(ro, "read"), nil, 0o644))
	require.NoError(t, os.Chmod(ro, 0o755))
	spec := l.holds(`$stdout.sync = true
File.write("/v/small", "kept")
File.open("/v/large", "w") { |f| f.truncate(65 << 20) }
File.write("/v/set", ""); File.chmod(04755, "/v/set")
File.mkfifo("/v/fifo")
open = ["/v/small", "/v/large", "/v/set", "/ro/read"].map { |f| File.open(f) } << File.open("/v/fifo", "r+")
puts "up"; sleep`, v)
	spec.Host.Binds = []string{ro + ":/ro:ro"}
	built := l.build(spec, up)
	warnings := strings.Join(built.Warnings, "\n")
	for _, want := range []string{
		"/v/large, held by the app on a mount, is not in the snapshot, since a snapshot's files of mounts may have 64 MiB together: the mounts of clones must have it",
		"/v/set, held by the app on a mount, is not in the snapshot, since set-user-id", "/ro/read, held by the app on a mount, is not in the snapshot, since the mount is read-only",
		"/v/fifo, held by the app on a mount, is not in the snapshot, since only regular files and directories can be",
	} {
		require.Contains(t, warnings, want)
	}
	require.Equal(t, []criu.MountFile{{Path: "/v/small", Mount: "/v"}}, built.Config.KeptFiles)
	_, err := l.tryRun(func() engine.Spec {
		s := l.holds("", l.volume(1000))
		s.Config.Entrypoint, s.Host.Binds = spec.Config.Entrypoint, spec.Host.Binds
		return s
	}(), restore.PolicyAlways)
	require.ErrorContains(t, err, "v/")
}

// besides has on a volume what CRIU makes anew or finds by its name: a socket that is bound, watches, a file that was deleted.
const besides = `require "fiddle"; require "socket"; $stdout.sync = true
%w[run watched tmp].each { |d| Dir.mkdir("/v/" + d) unless Dir.exist?("/v/" + d) }
File.write("/v/watched.conf", "conf")
server = UNIXServer.new("/v/run/app.sock"); File.chmod(0606, "/v/run/app.sock")
Dir.chdir("/v/run"); relative = UNIXServer.new("relative.sock"); Dir.chdir("/")
ghost = File.open("/v/tmp/ghost", "w+"); ghost.syswrite("ghost"); File.unlink("/v/tmp/ghost")
call = ->(name, *types) { Fiddle::Function.new(Fiddle.dlopen(nil)[name], types, Fiddle::TYPE_INT) }
fd = call["inotify_init"].()
add = call["inotify_add_watch", Fiddle::TYPE_INT, Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT]
add.(fd, "/v/watched", 0x100) > 0 && add.(fd, "/v/watched.conf", 0x2) > 0 or abort "can't watch"
Thread.new { io = IO.for_fd(fd); loop { io.readpartial(4096); $stdout.syswrite("event\n") } }
Thread.new { loop { c = server.accept; ghost.rewind; c.write(ghost.read); c.close } }
puts "up"; loop { relative.accept.close }`

// TestBesidesFilesOnMounts: sockets, watches and deleted files need directories there, or files.
func TestBesidesFilesOnMounts(t *testing.T) {
	l := newLab(t)
	l.build(l.holds(besides, l.volume(1000)), up)
	v := l.volume(1000)
	r := l.run(l.holds(besides, v), restore.PolicyAlways)
	require.Equal(t, []string{
		"/run drwxr-xr-x 1000:1000", "/run/app.sock Srw----rw- 1000:1000", "/run/relative.sock Srwxr-xr-x 1000:1000", "/tmp drwxr-xr-x 1000:1000",
		"/watched drwxr-xr-x 1000:1000", `/watched.conf -rw-r--r-- 1000:1000 "conf"`,
	}, tree(t, v))
	require.Equal(t, "ghost", l.output(r.ContainerID, "ruby", "-rsocket", "-e", `UNIXSocket.new("/v/run/relative.sock"); print UNIXSocket.new("/v/run/app.sock").read`))
	for i, name := range []string{"watched/new", "watched.conf"} {
		require.NoError(t, os.WriteFile(filepath.Join(v, name), []byte("changed"), 0o644))
		l.eventually(func() bool { return len(strings.Fields(l.logs(r.ContainerID))) > i }, "an event of "+name)
	}
}
