package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// witnessed serves what it was told at boot, and notes what it is told later: a line for each hook.
const witnessed = `set -e
trap exit TERM
trap 'echo signal >> /tmp/told' USR1
cat /.criu-docker > /tmp/boot
exec 9</.criu-docker
cat > /tmp/serve <<'END'
read method path version
while read name value && [ "$name" != "$(printf '\r')" ]; do
	case $name in Content-Length:) length=${value%?};; esac
done
status="200 OK"
case $path in
/boot) body=/tmp/boot;;
/told) head -c ${length:-0} > /tmp/posted; echo http >> /tmp/told; body=/dev/null;;
*) status="404 Not Found"; body=/dev/null;;
esac
printf "HTTP/1.1 $status\r\nConnection: close\r\n\r\n"
cat $body
END
nc -ll -p 80 -e /bin/busybox sh /tmp/serve &
while :; do sleep 1; done`

func (l *lab) witnessed() engine.Spec {
	spec := l.spec(tiny, witnessed)
	spec.Config.User = "65534:65534"
	spec.Host.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	spec.Host.Tmpfs = map[string]string{"/tmp": "mode=1777"}
	spec.Config.Env = []string{"PATH=/bin", "KEPT=as it was"}
	return spec
}

func (l *lab) identity(id, file string) (i ociruntime.Identity) {
	l.Helper()
	require.NoError(l, json.Unmarshal([]byte(l.sh(id, "cat "+file)), &i))
	return i
}

var witnessedReady = build.Probe{Type: build.ProbeHTTP, Port: 80, Path: "/boot", Timeout: time.Minute}

var tolds = []hook.Hook{
	{Type: hook.Signal, Signal: "USR1"},
	{Type: hook.Exec, Command: []string{"/bin/sh", "-c", "echo exec $KEPT $CRIU_DOCKER_GENERATION $CRIU_DOCKER_RANDOM $(id -u) >> /tmp/told"}},
	{Type: hook.HTTP, Port: 80, Path: "/told"},
	{Type: hook.Exec, Command: []string{"/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 &"}}, // it leaves something behind
}

// TestIdentity: every container of ours is told what it is before it runs, at each start, and clones by their hooks too, in time.
func TestIdentity(t *testing.T) {
	l := newLab(t)
	spec := l.witnessed()
	var steps []string
	built, err := build.Snapshot(l.ctx, l.eng, build.Options{
		Spec: spec, Ready: witnessedReady, Checkpoint: criu.DefaultOptions(), Store: l.store,
		Hooks: hook.Hooks{
			BeforeFreeze: []hook.Hook{{Type: hook.Exec, Command: []string{"/bin/sh", "-c", "echo freezing >> /tmp/told"}}, tolds[2]},
			AfterRestore: tolds,
		},
		OnEvent: func(e build.Event) {
			if e.Done {
				steps = append(steps, e.Step)
			}
		},
	})
	require.NoError(t, err)
	require.Contains(t, strings.Join(steps, " "), "boot before_freeze freeze")

	seen := map[string]bool{}
	fresh := func(i ociruntime.Identity, origin ociruntime.Origin, hostname string) {
		t.Helper()
		require.Equal(t, origin, i.Start)
		require.Equal(t, hostname, i.Hostname)
		require.Len(t, i.Random, 128)
		require.WithinDuration(t, time.Now(), i.Started, patience)
		for _, unique := range []string{i.Generation, i.Random} {
			require.False(t, seen[unique], "of this start alone")
			seen[unique] = true
		}
	}
	var hot *restore.Result
	for range 2 {
		hot = l.run(spec, restore.PolicyAlways)
		require.Equal(t, restore.Hot, hot.Start)
		i := l.identity(hot.ContainerID, "/.criu-docker")
		fresh(i, ociruntime.FromSnapshot, hot.ContainerID[:12])
		require.Equal(t, built.Manifest.Digest.String(), i.Snapshot)
		require.Equal(t, built.Config.Created, *i.Frozen)
		require.Equal(t, "400 65534 1024", strings.TrimSpace(l.sh(hot.ContainerID, "stat -c '%a %u %s' /.criu-docker")))
		require.Equal(t, i, l.identity(hot.ContainerID, "/proc/1/fd/9"), "what the app holds open is its own too")
		donor := l.identity(hot.ContainerID, "/tmp/boot")
		require.Equal(t, ociruntime.OfDonor, donor.Start)
		l.told(hot.ContainerID, i, "freezing", "http")
		posted := ociruntime.Identity{}
		require.NoError(t, json.Unmarshal([]byte(l.sh(hot.ContainerID, "cat /tmp/posted")), &posted))
		require.Equal(t, i, posted)
	}

	require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, hot.ContainerID, container.StopOptions{}))
	again := l.identity(hot.ContainerID, "/.criu-docker")
	fresh(again, ociruntime.FromSnapshot, hot.ContainerID[:12])
	require.Contains(t, l.sh(hot.ContainerID, "cat /tmp/told"), again.Generation, "told once more")

	cold := l.run(spec, restore.PolicyNever)
	fresh(l.identity(cold.ContainerID, "/.criu-docker"), ociruntime.FromBoot, cold.ContainerID[:12])
	require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, cold.ContainerID, container.StopOptions{}))
	fresh(l.identity(cold.ContainerID, "/.criu-docker"), ociruntime.FromBoot, cold.ContainerID[:12])
	require.NotContains(t, l.sh(cold.ContainerID, "cat /tmp/told || true"), "exec", "hooks are for clones")

	fixed := l.spec(tiny, "")
	fixed.Host.ReadonlyRootfs = true
	l.build(fixed, tinyReady)
	for policy, origin := range map[restore.Policy]ociruntime.Origin{restore.PolicyNever: ociruntime.FromBoot, restore.PolicyAlways: ociruntime.FromSnapshot} {
		r := l.run(fixed, policy)
		fresh(l.identity(r.ContainerID, "/.criu-docker"), origin, r.ContainerID[:12])
	}

	plain := l.witnessed()
	plain.Host.Runtime = "runc"
	plain.Config.Entrypoint = []string{"/bin/sleep", "1000"}
	left := l.run(plain, restore.PolicyNever)
	require.Equal(t, "runc", l.inspect(left.ContainerID).HostConfig.Runtime, "as its user asked for it")
	require.Equal(t, "none", strings.TrimSpace(l.sh(left.ContainerID, "test -e /.criu-docker || echo none")))

	none, err := restore.Run(l.ctx, l.eng, restore.Options{Spec: spec, Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, AfterRestore: []hook.Hook{}})
	require.NoError(t, err)
	require.NotContains(t, l.sh(none.ContainerID, "cat /tmp/told"), "exec")
}

// told checks what the app of a clone was told, after what its donor was. Nothing waits for what becomes of a signal.
func (l *lab) told(id string, i ociruntime.Identity, before ...string) {
	l.Helper()
	lines := func() []string { return strings.Split(strings.TrimSpace(l.sh(id, "cat /tmp/told")), "\n") }
	want := append(before, "exec as it was "+i.Generation+" "+i.Random+" 65534", "http")
	require.Subset(l, lines(), want)
	l.eventually(func() bool { return len(lines()) == len(want)+1 }, "it gets the signal")
	require.Contains(l, lines(), "signal")
}

// TestHookThatFails: it fails the start, with its reason, and clients don't get to see the clone before it is done.
func TestHookThatFails(t *testing.T) {
	l := newLab(t)
	spec := l.witnessed()
	l.build(spec, witnessedReady)
	for _, c := range []struct {
		hook hook.Hook
		want []string
	}{
		{
			hook.Hook{Type: hook.Exec, Command: []string{"/bin/sh", "-c", "echo no seed >&2; exit 3"}},
			[]string{"after_restore[0], exec:echo no seed >&2; exit 3", "exit status 3: no seed"},
		},
		{hook.Hook{Type: hook.Exec, Command: []string{"/bin/absent"}}, []string{"after_restore[0]", "/bin/absent", "no such file"}},
		{hook.Hook{Type: hook.HTTP, Port: 80, Path: "/absent"}, []string{"after_restore[0], http://:80/absent", `it answered "404 Not Found"`}},
		{hook.Hook{Type: hook.HTTP, Port: 81, Path: "/"}, []string{"connection refused"}},
		{
			hook.Hook{Type: hook.Exec, Command: []string{"/bin/sleep", "1000"}, Timeout: 100 * time.Millisecond},
			[]string{"it was not done within 100ms"},
		},
	} {
		opts := restore.Options{Spec: spec, Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, AfterRestore: []hook.Hook{c.hook}}
		_, err := restore.Run(l.ctx, l.eng, opts)
		for _, want := range c.want {
			require.ErrorContains(t, err, want)
		}
		require.Empty(t, l.containers())
		opts.Policy = restore.PolicyIfPresent
		r, err := restore.Run(l.ctx, l.eng, opts)
		require.NoError(t, err)
		require.Equal(t, restore.Cold, r.Start)
		require.Contains(t, r.Reason, c.want[0])
		require.NoError(t, restore.Remove(l.ctx, l.eng, l.cache, r.ContainerID))
	}
}

// TestClientsWaitForHooks: while hooks run, connections from outside are refused, as before the start.
func TestClientsWaitForHooks(t *testing.T) {
	l := newLab(t)
	spec := l.witnessed()
	l.build(spec, witnessedReady)
	type started struct {
		*restore.Result
		error
	}
	done := make(chan started, 1)
	go func() {
		r, err := restore.Run(l.ctx, l.eng, restore.Options{
			Spec: spec, Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache,
			AfterRestore: []hook.Hook{
				tolds[2],
				{Type: hook.Exec, Command: []string{"/bin/sh", "-c", "while ! test -e /tmp/go; do sleep 0.01; done"}, Timeout: patience},
			},
		})
		done <- started{r, err}
	}()
	var root string // of the clone, as /proc shows it; the engine answers no question about a container that it starts
	l.eventually(func() bool {
		for _, c := range l.containers() {
			var first struct{ Pid int }
			b, err := os.ReadFile(filepath.Join(string(runDir), "containers", c.ID, "task.json"))
			if err != nil || json.Unmarshal(b, &first) != nil {
				continue
			}
			root = fmt.Sprintf("/proc/%d/root", first.Pid)
			if b, err := os.ReadFile(root + "/tmp/told"); err == nil && strings.Contains(string(b), "http") {
				return true
			}
		}
		return false
	}, "the first hook has run")
	addresses, err := exec.CommandContext(l.ctx, "nsenter", "--net="+filepath.Join(filepath.Dir(root), "ns/net"), "ip", "-4", "-o", "address", "show", "dev", "eth0").CombinedOutput()
	require.NoError(t, err, string(addresses))
	ip := regexp.MustCompile(`inet ([\d.]+)`).FindSubmatch(addresses)
	require.NotEmpty(t, ip, string(addresses))
	_, err = net.Dial("tcp", string(ip[1])+":80")
	require.ErrorIs(t, err, unix.ECONNREFUSED)
	require.Empty(t, done)
	require.NoError(t, os.WriteFile(root+"/tmp/go", nil, 0o644))
	r := <-done
	require.NoError(t, r.error)
	require.Contains(t, l.mustGet("http://"+string(ip[1])+"/boot"), "donor")
}
