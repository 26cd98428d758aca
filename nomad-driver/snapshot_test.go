package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/store"
)

// counter serves how long it has been up, in steps, and writes what it is told to: enough to tell a clone from a cold boot.
const counter = `i=0; echo booted; httpd -p 80 -h /local; trap 'exit 0' TERM; trap 'echo count $i' USR1; while :; do i=$((i+1)); sleep 0.05; [ ! -e /local/fail ] || { rm /local/fail; exit 9; }; done`

// publishCounter builds a snapshot of the counter for Nomad and returns its ref.
func publishCounter(t *testing.T, eng *engine.Engine, address string, env ...string) string {
	t.Helper()
	return publishSnapshot(t, eng, address, container.Config{Image: tiny, Cmd: []string{"/bin/sh", "-c", counter}, Env: env},
		build.Probe{Type: build.ProbeLog, Pattern: "booted"})
}

// publishSnapshot builds a snapshot for Nomad and returns its ref.
func publishSnapshot(t *testing.T, eng *engine.Engine, address string, config container.Config, ready build.Probe) string {
	t.Helper()
	s, err := store.Open(t.Context(), address)
	require.NoError(t, err)
	defer s.Close()
	result, err := build.Snapshot(t.Context(), eng, build.Options{
		Spec:       engine.Spec{Config: &config, Host: &container.HostConfig{}},
		Nomad:      true,
		Ready:      ready,
		Checkpoint: criu.DefaultOptions(),
		Store:      s,
		Dir:        filepath.Join(t.TempDir(), "build"),
	})
	require.NoError(t, err)
	return result.Ref.String()
}

func counterTask(policy string) string {
	return fmt.Sprintf(`
		image   = "tiny:lab"
		command = "/bin/sh"
		args    = ["-c", %q]
		ports   = ["http/tcp"]
		snapshot {
			policy = %q
		}`, counter, policy)
}

func httpPort(port int) func(*drivers.TaskConfig) {
	return func(cfg *drivers.TaskConfig) {
		cfg.Resources.Ports = &structs.AllocatedPorts{{Label: "http", Value: port, To: 80, HostIP: "127.0.0.1"}}
	}
}

// A task with a fitting snapshot is restored from it: it does not boot, has its own hostname, port, directories and logs,
// and takes signals.
func TestHotStart(t *testing.T) {
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }", dir))
	ref := publishCounter(t, b.engine, dir)

	var tasks []*drivers.TaskConfig
	for i := range 2 {
		cfg := b.task(counterTask("always"), httpPort(28100+i))
		handle, net := b.start(cfg)
		require.NotEmpty(t, net.IP)
		e := b.event("Restored from snapshot " + ref + " in ")
		require.Equal(t, cfg.ID, e.TaskID)
		for _, step := range []string{"prepare", "resolve", "fetch", "create", "restore"} { // some run side by side
			require.Regexp(t, `in \d+\.\ds \(.*\b`+step+` \d+\.\d\ds`, e.Message)
		}
		require.Equal(t, "hot", e.Annotations["start"])
		require.Equal(t, ref, e.Annotations["snapshot"])
		require.NotNil(t, handle)
		tasks = append(tasks, cfg)
	}
	for i, cfg := range tasks {
		require.NoError(t, os.WriteFile(filepath.Join(cfg.TaskDir().LocalDir, "index.html"), []byte(cfg.ID), 0o644))
		require.Equal(t, cfg.ID, requireServes(t, fmt.Sprintf("http://127.0.0.1:%d/", 28100+i)))
		require.Equal(t, "web-"+cfg.AllocID[:8], b.exec(cfg.ID, "hostname"))
		require.Contains(t, b.exec(cfg.ID, "cat /local/criu-docker.env"), "NOMAD_TASK_DIR='/local'")
		require.NoError(t, b.SignalTask(cfg.ID, "SIGUSR1"))
		require.Regexp(t, `^count \d+\n$`, b.output(cfg, "stdout"), "what the donor wrote is not replayed")
		status, err := b.InspectTask(cfg.ID)
		require.NoError(t, err)
		require.Equal(t, "hot", status.DriverAttributes["start"])
		require.Equal(t, ref, status.DriverAttributes["snapshot"])
	}

	// A task that fails is started anew by Nomad under the same id, and is hot again.
	cfg := tasks[0]
	require.NoError(t, os.WriteFile(filepath.Join(cfg.TaskDir().LocalDir, "fail"), nil, 0o600))
	require.Equal(t, 9, b.wait(cfg.ID).ExitCode)
	require.NoError(t, b.DestroyTask(cfg.ID, false))
	b.start(cfg)
	b.event("Restored from snapshot")
	require.NoError(t, b.StopTask(cfg.ID, patience, ""))
	require.Equal(t, 0, b.wait(cfg.ID).ExitCode)
}

// A task's hooks are told what is its allocation's, and it counts as started when they are done. One that fails fails the start.
func TestHooksOfATask(t *testing.T) {
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }", dir))
	publishCounter(t, b.engine, dir)
	hooked := func(policy, hook string) string {
		return strings.Replace(counterTask(policy), "snapshot {", fmt.Sprintf("snapshot {\n after_restore = [%q]", hook), 1)
	}
	allocation := func(cfg *drivers.TaskConfig) { cfg.Env["NOMAD_ALLOC_ID"] = cfg.AllocID }
	cfg := b.task(hooked("always", "exec:echo $NOMAD_ALLOC_ID $CRIU_DOCKER_HOSTNAME $CRIU_DOCKER_START > /local/index.html"), httpPort(28108), allocation)
	b.start(cfg)
	b.event("Restored from snapshot")
	want := fmt.Sprintf("%s web-%s hot\n", cfg.AllocID, cfg.AllocID[:8])
	told, err := os.ReadFile(filepath.Join(cfg.TaskDir().LocalDir, "index.html"))
	require.NoError(t, err)
	require.Equal(t, want, string(told))
	require.Equal(t, want, requireServes(t, "http://127.0.0.1:28108/"))
	require.Contains(t, b.exec(cfg.ID, "cat /.criu-docker"), `"hostname":"web-`+cfg.AllocID[:8])

	cfg = b.task(hooked("if_present", "exec:echo no seed; exit 1"), httpPort(28109))
	b.start(cfg)
	require.Contains(t, b.event("Cold boot").Message, "after_restore[0], exec:echo no seed; exit 1: exit status 1: no seed")
	require.Contains(t, b.exec(cfg.ID, "cat /.criu-docker"), `"start":"cold"`)

	_, _, err = b.StartTask(b.failing(hooked("always", "signal:KILL"), httpPort(28110)))
	require.ErrorContains(t, err, `snapshot.after_restore = ["signal:KILL"]: "signal:KILL": signal = "KILL": no app can handle it`)
}

// A job's user is as good as an image's: its task is restored with nothing of root's, and uses its directories and logs.
func TestHotStartAsAUser(t *testing.T) {
	for _, user := range []string{"nobody", "1000:1000"} {
		t.Run(user, func(t *testing.T) {
			dir := t.TempDir()
			b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }", dir))
			publishSnapshot(t, b.engine, dir, container.Config{Image: tiny, User: user, Cmd: []string{"/bin/sh", "-c", counter}},
				build.Probe{Type: build.ProbeLog, Pattern: "booted"})
			cfg := b.task(counterTask("always"), httpPort(28107), func(cfg *drivers.TaskConfig) { cfg.User = user })
			b.start(cfg)
			b.event("Restored from snapshot")
			uid, _, _ := strings.Cut(strings.Replace(user, "nobody", "65534:65534", 1), ":")
			status := b.exec(cfg.ID, "cat /proc/1/status")
			require.Contains(t, status, "\nUid:\t"+strings.Repeat(uid+"\t", 3)+uid+"\n")
			require.Contains(t, status, "\nCapEff:\t0000000000000000\n")
			require.Equal(t, uid, b.exec(cfg.ID, "id -u"))
			b.exec(cfg.ID, "echo mine > /local/index.html; echo mine > /alloc/shared; cat /secrets/* 2>/dev/null; test -r /local/criu-docker.env")
			require.Equal(t, "mine\n", requireServes(t, "http://127.0.0.1:28107/"))
			require.NoError(t, b.SignalTask(cfg.ID, "SIGUSR1"))
			require.Regexp(t, `^count \d+\n$`, b.output(cfg, "stdout"))

			b.exec(cfg.ID, "touch /local/fail")
			require.Equal(t, 9, b.wait(cfg.ID).ExitCode)
			require.NoError(t, b.DestroyTask(cfg.ID, false))
			b.start(cfg)
			b.event("Restored from snapshot")
			require.Equal(t, uid, b.exec(cfg.ID, "id -u"))
		})
	}
}

// What the donor held open in the directories of its task is put in those of each allocation.
func TestHotStartWithOpenFiles(t *testing.T) {
	const script = `umask 027; cd /alloc/tmp; mkdir -p /local/run; exec 5>>/alloc/logs/app.log 6<>/alloc/data/state; echo key > /secrets/key; exec 7</secrets/key
echo booted >&5; echo 1 >&6; httpd -p 80 -h /local/run; echo booted; trap 'exit 0' TERM
trap 'echo again >&5; echo 2 >&6; echo "$(pwd) $(cat <&7)"' USR1; while :; do sleep 0.05; done`
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }", dir))
	publishSnapshot(t, b.engine, dir, container.Config{Image: tiny, User: "1000:1000", Cmd: []string{"/bin/sh", "-c", script}},
		build.Probe{Type: build.ProbeLog, Pattern: "booted"})
	for i := range 2 {
		cfg := b.task(strings.Replace(counterTask("always"), fmt.Sprintf("%q", counter), fmt.Sprintf("%q", script), 1), httpPort(28111+i),
			func(cfg *drivers.TaskConfig) { cfg.User = "1000:1000" })
		b.start(cfg)
		b.event("Restored from snapshot")
		require.NoError(t, b.SignalTask(cfg.ID, "SIGUSR1"))
		require.Equal(t, "/alloc/tmp key\n", b.output(cfg, "stdout"))
		require.Equal(t, "booted\nagain\n1\n2\nkey", b.exec(cfg.ID, "cat /alloc/logs/app.log /alloc/data/state /secrets/key"))
		for name, mode := range map[string]os.FileMode{
			"alloc/logs/app.log": 0o640, "alloc/data/state": 0o640, "web/secrets/key": 0o640, "web/local/run": os.ModeDir | 0o750,
		} {
			info, err := os.Stat(filepath.Join(cfg.AllocDir, name))
			require.NoError(t, err)
			require.Equal(t, mode, info.Mode())
			require.EqualValues(t, 1000, info.Sys().(*syscall.Stat_t).Uid)
		}
	}
}

// A task's memory comes back as it says, or else as the plugin's configuration does.
func TestHotStartMemory(t *testing.T) {
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot {\nstore = %q\nmemory = \"eager\"\n}", dir))
	publishCounter(t, b.engine, dir)
	for memory, lazy := range map[string]bool{"": false, `memory = "lazy"`: true} {
		cfg := b.task(strings.Replace(counterTask("always"), "snapshot {", "snapshot {\n"+memory+"\n", 1), httpPort(28105))
		b.start(cfg)
		request, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadRequest(b.containers(cfg)[0].ID)
		require.NoError(t, err)
		require.Equal(t, lazy, request.Lazy, memory)
		require.NoError(t, b.DestroyTask(cfg.ID, true))
	}
}

// A clone outlives the plugin, whose successor takes it up with its logs.
func TestHotStartRecover(t *testing.T) {
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }", dir))
	publishCounter(t, b.engine, dir)
	cfg := b.task(counterTask("always"), httpPort(28110))
	handle, _ := b.start(cfg)
	b.restart()
	require.NoError(t, b.RecoverTask(handle))
	require.NoError(t, b.SignalTask(cfg.ID, "SIGUSR1"))
	require.Regexp(t, `^count \d+\n$`, b.output(cfg, "stdout"))
	require.NoError(t, b.StopTask(cfg.ID, patience, ""))
	require.Equal(t, 0, b.wait(cfg.ID).ExitCode)
	require.NoError(t, b.DestroyTask(cfg.ID, false))
	require.Empty(t, b.containers(cfg))
}
