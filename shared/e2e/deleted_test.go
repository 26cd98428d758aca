package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// semaphores calls glibc's from Ruby.
const semaphores = `require "fiddle"; $stdout.sync = true
def libc(name, *args) = Fiddle::Function.new(Fiddle::Handle::DEFAULT[name], args, Fiddle::TYPE_VOIDP)
def sem_open(name) = libc("sem_open", Fiddle::TYPE_VOIDP, *[Fiddle::TYPE_INT] * 3).call(name, File::CREAT, 0600, 0)
def sem_unlink(name) = libc("sem_unlink", Fiddle::TYPE_VOIDP).call(name)
def post(sem) = libc("sem_post", Fiddle::TYPE_VOIDP).call(sem)
def taken(sem) = libc("sem_trywait", Fiddle::TYPE_VOIDP).call(sem).to_i == 0
`

// deleter holds files by names that are gone, in its layer and in /dev/shm; some of them have another name.
const deleter = semaphores + `
%w[/is /higher].each { |again| File.unlink(again) if File.exist?(again) }
File.write("/was", "kept\n"); File.link("/was", "/is"); layer = File.open("/was", "a"); File.unlink("/was")
Dir.mkdir("/gone"); File.write("/gone/was", "higher\n"); File.link("/gone/was", "/higher"); higher = File.open("/gone/was")
File.unlink("/gone/was"); Dir.rmdir("/gone")
File.write("/etc/passwd", "") unless File.exist?("/etc/passwd"); image = File.open("/etc/passwd"); File.unlink("/etc/passwd")
nameless = File.open("/nameless", "w+"); nameless.write("ghost\n"); nameless.flush; File.unlink("/nameless")
named, unlinked = sem_open("/named"), sem_open("/unlinked"); sem_unlink("/unlinked")
child = fork { trap("USR1") { post(unlinked) }; loop { sleep 1 } }
trap("USR1") { Process.kill("USR1", child) }
trap("USR2") { layer.syswrite("more\n") }
puts "up"
loop do
  puts "named" if taken(named)
  puts "unlinked" if taken(unlinked)
  sleep 0.01
end`

// TestFilesThatWereDeletedWhileTheyAreOpen: glibc's semaphores are such, as long as they have a name and when they have none any more.
func TestFilesThatWereDeletedWhileTheyAreOpen(t *testing.T) {
	l := newLab(t)
	spec := l.ruby(deleter)
	l.build(spec, up)
	spec.Config.Labels["other"] = "container"
	first := l.run(spec, restore.PolicyIfPresent)
	require.Empty(t, first.Reason)
	id := first.ContainerID
	for start := range 2 {
		require.Empty(t, l.output(id, "sh", "-c", "kill -USR1 1 && kill -USR2 1"))
		require.NoError(t, l.eng.Exec(l.ctx, id, []string{"ruby", "-e", semaphores + `post(sem_open("/named"))`}))
		for _, word := range []string{"named", "unlinked"} {
			l.eventually(func() bool {
				return strings.Count(" "+strings.Join(strings.Fields(l.logs(id)), "  ")+" ", " "+word+" ") == start+1
			}, word)
		}
		l.eventually(func() bool { return l.output(id, "sh", "-c", "cat /is") == "kept\nmore" }, "what is written to a file that has another name")
		held := l.output(id, "sh", "-c", `for f in /proc/1/fd/*; do case "$(readlink $f)" in *deleted*) cat $f;; esac; done`)
		require.Contains(t, held, "kept\nmore\nhigher\nroot:x:0:0")
		require.Contains(t, held, "ghost")
		require.Empty(t, l.output(id, "sh", "-c", `find / -xdev -name 'link_remap*' -o -name '*.cr.*' -o -name '*.cr_link'`))
		require.Equal(t, "sem.named", l.output(id, "sh", "-c", "ls -A /dev/shm"))
		if start == 1 {
			l.takeImage(id)
		}
		require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, id, container.StopOptions{Timeout: new(int)}))
		require.Equal(t, start == 1, l.report(id).Cold != "")
	}
	require.Empty(t, l.output(id, "find", "/", "-xdev", "-name", "link_remap*"), "after a restore that failed")
}

// TestFileThatWasDeletedOnAMountFromOutside: CRIU would leave a link there, which clones would lack.
func TestFileThatWasDeletedOnAMountFromOutside(t *testing.T) {
	l := newLab(t)
	for name, test := range map[string]struct {
		script string
		host   container.HostConfig
		named  string
	}{
		"bind":            {`File.write("/v/was", "");  File.link("/v/was", "/v/is"); f = File.open("/v/was"); File.unlink("/v/was")`, container.HostConfig{}, "/v/was"},
		"memory of hosts": {`sem = sem_open("/criu-docker-test")`, container.HostConfig{IpcMode: "host"}, "/dev/shm/sem."},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			spec := l.ruby(semaphores + test.script + `; puts "up"; sleep`)
			spec.Host = &test.host
			spec.Host.Binds = []string{dir + ":/v"}
			t.Cleanup(func() { _ = os.Remove("/dev/shm/sem.criu-docker-test") })
			_, err := l.tryBuild(spec, up, criu.DefaultOptions())
			require.ErrorContains(t, err, "the app holds "+test.named)
			require.ErrorContains(t, err, "clones would lack it")
			for _, outside := range []string{dir, "/dev/shm"} {
				links, err := filepath.Glob(outside + "/link_remap*")
				require.NoError(t, err)
				require.Empty(t, links)
			}
		})
	}
}
