package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

func TestFingerprint(t *testing.T) {
	b := newTestbed(t, "")
	fingerprints, err := b.Fingerprint(t.Context())
	require.NoError(t, err)
	f := <-fingerprints
	require.Equal(t, drivers.HealthStateHealthy, f.Health, f.HealthDescription)
	for _, name := range []string{
		"", ".version", ".runtimes", ".os_type", ".bridge_ip", ".volumes.enabled", ".privileged.enabled",
		".runtime", ".runtime.path", ".runc_version", ".criu_version", ".kernel_version",
	} {
		require.Contains(t, f.Attributes, "driver.criu-docker"+name)
	}
	version, _ := f.Attributes["driver.criu-docker.criu_version"].GetString()
	require.Regexp(t, `^\d+\.\d+`, version)
}

// A node with an engine that cannot restore says what it lacks and what to do, and gets no tasks.
func TestFingerprintUnfit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := newTestbed(t, "")
	fingerprints, err := b.Fingerprint(t.Context())
	require.NoError(t, err)
	f := <-fingerprints
	require.Equal(t, drivers.HealthStateUnhealthy, f.Health)
	require.Contains(t, f.HealthDescription, "CRIU: not installed: install CRIU 4.")
	require.NotContains(t, f.Attributes, "driver.criu-docker")
	require.NotContains(t, f.Attributes, "driver.criu-docker.criu_version")
	require.Contains(t, f.Attributes, "driver.criu-docker.version")
}

// An engine that does not answer makes a node that never worked undetected, with the reason.
func TestFingerprintWithoutEngine(t *testing.T) {
	b := newTestbed(t, `endpoint = "unix:///nowhere/docker.sock"`)
	fingerprints, err := b.Fingerprint(t.Context())
	require.NoError(t, err)
	f := <-fingerprints
	require.Equal(t, drivers.HealthStateUndetected, f.Health)
	require.Contains(t, f.HealthDescription, "/nowhere/docker.sock")
	require.Equal(t, drivers.HealthStateUnhealthy, b.driver.fingerprint(t.Context(), true).Health, "one that worked is known, and ill")
}

func TestTaskRunsToItsEnd(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(`
		image   = "tiny:lab"
		command = "/bin/sh"
		args    = ["-c", "echo to stdout; echo to stderr >&2; exit 7"]
		snapshot { policy = "never" }`)
	b.start(cfg)
	result := b.wait(cfg.ID)
	require.Equal(t, 7, result.ExitCode)
	require.False(t, result.OOMKilled)
	require.NoError(t, result.Err)
	b.logged(cfg, "stdout", "to stdout\n")
	b.logged(cfg, "stderr", "to stderr\n")

	status, err := b.InspectTask(cfg.ID)
	require.NoError(t, err)
	require.Equal(t, drivers.TaskStateExited, status.State)
	require.Equal(t, "cold", status.DriverAttributes["start"])
	e := b.event("Cold boot")
	require.Regexp(t, `^Cold boot: the policy is never; started in \d+\.\ds \(prepare \d+\.\d\ds, cold boot \d+\.\d\ds\)$`, e.Message)
	require.Contains(t, e.Annotations, "elapsed_cold_boot")
}

func TestHostnamePortsAndDirectories(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(`
		image = "tiny:lab"
		ports = ["http/tcp"]
		labels { tier = "web" }
		snapshot { policy = "never" }`, func(cfg *drivers.TaskConfig) {
		cfg.Resources.Ports = &structs.AllocatedPorts{{Label: "http", Value: 28080, To: 80, HostIP: "127.0.0.1"}}
		cfg.Env["GREETING"] = "hello"
		cfg.Env["VAULT_TOKEN"] = "it's secret"
	})
	_, net := b.start(cfg)
	require.NotEmpty(t, net.IP)
	require.Equal(t, map[string]int{"http": 80}, net.PortMap)
	require.False(t, net.AutoAdvertise)
	requireServes(t, "http://127.0.0.1:28080/")

	require.Equal(t, "web-"+cfg.AllocID[:8], b.exec(cfg.ID, "hostname"))
	require.Equal(t, "hello", b.exec(cfg.ID, "echo $GREETING"))
	require.Equal(t, "/alloc /local /secrets", b.exec(cfg.ID, "echo $NOMAD_ALLOC_DIR $NOMAD_TASK_DIR $NOMAD_SECRETS_DIR"))
	require.Contains(t, b.exec(cfg.ID, "cat /local/criu-docker.env"), "NOMAD_TASK_DIR='/local'\n")
	require.NotContains(t, b.exec(cfg.ID, "cat /local/criu-docker.env"), "GREETING")
	require.NotContains(t, b.exec(cfg.ID, "cat /local/criu-docker.env"), "VAULT_TOKEN")
	require.Equal(t, "it's secret", b.exec(cfg.ID, ". /secrets/criu-docker.env; echo $VAULT_TOKEN"))
	b.exec(cfg.ID, "touch /alloc/data/a /local/b /secrets/c")
	for _, file := range []string{cfg.TaskDir().SharedAllocDir + "/data/a", cfg.TaskDir().LocalDir + "/b", cfg.TaskDir().SecretsDir + "/c"} {
		require.FileExists(t, file)
	}

	c := b.containers(cfg)
	require.Len(t, c, 1)
	require.Equal(t, "web", c[0].Labels["tier"])
	require.NotContains(t, c[0].Labels, "com.hashicorp.nomad.alloc_id")
	require.NotRegexp(t, `-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, c[0].Names[0])
}

func TestDestroyRemovesEverything(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	require.ErrorContains(t, b.DestroyTask(cfg.ID, false), "is running")
	require.Len(t, b.containers(cfg), 1)
	require.NoError(t, b.DestroyTask(cfg.ID, true))
	require.Empty(t, b.containers(cfg))
	_, err := b.InspectTask(cfg.ID)
	require.ErrorContains(t, err, drivers.ErrTaskNotFound.Error())
}

// sleeping runs until it is told to end.
const sleeping = `
	image   = "tiny:lab"
	command = "/bin/sh"
	args    = ["-c", "trap 'echo ended; exit 0' TERM; trap 'echo one' USR1; echo ready; while :; do sleep 0.1; done"]
	snapshot { policy = "never" }`

func TestStopAsksFirst(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	b.logged(cfg, "stdout", "ready\n")
	require.NoError(t, b.StopTask(cfg.ID, patience, ""))
	require.Equal(t, 0, b.wait(cfg.ID).ExitCode)
	b.logged(cfg, "stdout", "ready\nended\n")
}

func TestStopKillsAfterTimeout(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(`
		image   = "tiny:lab"
		command = "/bin/sh"
		args    = ["-c", "trap '' TERM INT; echo ready; while :; do sleep 0.1; done"]
		snapshot { policy = "never" }`)
	b.start(cfg)
	b.logged(cfg, "stdout", "ready\n")
	require.NoError(t, b.StopTask(cfg.ID, 300*time.Millisecond, "SIGINT"))
	require.Equal(t, 137, b.wait(cfg.ID).ExitCode)
}

func TestSignal(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	b.logged(cfg, "stdout", "ready\n")
	require.NoError(t, b.SignalTask(cfg.ID, "SIGUSR1"))
	b.logged(cfg, "stdout", "ready\none\n")
	require.ErrorContains(t, b.SignalTask(cfg.ID, "SIGNONSENSE"), "SIGNONSENSE")
}

// Why a clone was lost, which the runtime's report says, is an event of the task and part of its end.
func TestLostClone(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	id := b.containers(cfg)[0].ID
	report, err := json.Marshal(ociruntime.Report{Lost: "the clone was killed: the store is down"})
	require.NoError(t, err)
	dir := filepath.Join(ociruntime.DefaultRunDir, "containers", id)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "report.json"), report, 0o600))

	require.NoError(t, b.SignalTask(cfg.ID, "SIGKILL"))
	result := b.wait(cfg.ID)
	require.Equal(t, 137, result.ExitCode)
	require.EqualError(t, result.Err, "the clone was killed: the store is down")
	e := b.event("Lost: ")
	require.Equal(t, cfg.ID, e.TaskID)
	require.Equal(t, "Lost: the clone was killed: the store is down", e.Message)
	require.Equal(t, map[string]string{"lost": "the clone was killed: the store is down", "container_id": id}, e.Annotations)
	require.NoError(t, b.DestroyTask(cfg.ID, false))
	require.NoDirExists(t, dir)
}

func TestMemoryLimit(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(`
		image   = "tiny:lab"
		command = "/bin/sh"
		args    = ["-c", "tail /dev/zero"]
		snapshot { policy = "never" }`)
	b.start(cfg)
	result := b.wait(cfg.ID)
	require.True(t, result.OOMKilled)
	require.ErrorContains(t, result.Err, "memory limit")
}

func TestExec(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	res, err := b.ExecTask(cfg.ID, []string{"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}, patience)
	require.NoError(t, err)
	require.Equal(t, "out\n", string(res.Stdout))
	require.Equal(t, "err\n", string(res.Stderr))
	require.Equal(t, 3, res.ExitResult.ExitCode)

	// A command that takes too long is ended, in the container as well.
	_, err = b.ExecTask(cfg.ID, []string{"/bin/sleep", "4711"}, 300*time.Millisecond)
	require.Error(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.NotContains(c, b.exec(cfg.ID, "ps"), "sleep 4711")
	}, patience, 50*time.Millisecond)
}

func TestExecStreaming(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	testutils.TestExecTaskStreamingBasicResponses(t, b.DriverHarness, cfg.ID)
}

func TestStats(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	usage, err := b.TaskStats(ctx, cfg.ID, 50*time.Millisecond)
	require.NoError(t, err)
	for u := range usage {
		if u.ResourceUsage.CpuStats.Percent > 0 && u.ResourceUsage.MemoryStats.RSS > 0 {
			return
		}
	}
	require.FailNow(t, "no usage above zero was reported")
}

// A new plugin process takes up the tasks of the last one: their state, their end, and their output without a gap.
func TestRecover(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(`
		image   = "tiny:lab"
		command = "/bin/sh"
		args    = ["-c", "echo one; while [ ! -e /local/go ]; do sleep 0.1; done; echo two; exit 5"]
		snapshot { policy = "never" }`)
	handle, _ := b.start(cfg)
	require.NoError(t, b.RecoverTask(handle), "recovering a task that is known already")
	b.logged(cfg, "stdout", "one\n")

	b.restart()
	require.NoError(t, b.RecoverTask(handle))
	status, err := b.InspectTask(cfg.ID)
	require.NoError(t, err)
	require.Equal(t, drivers.TaskStateRunning, status.State)
	require.Equal(t, "cold", status.DriverAttributes["start"])
	require.NoError(t, os.WriteFile(filepath.Join(cfg.TaskDir().LocalDir, "go"), nil, 0o600))
	require.Equal(t, 5, b.wait(cfg.ID).ExitCode)
	b.logged(cfg, "stdout", "one\ntwo\n")
}

// A task whose container is gone cannot be recovered, so that Nomad starts it anew.
func TestRecoverWithoutContainer(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	handle, _ := b.start(cfg)
	require.NoError(t, b.DestroyTask(cfg.ID, true))
	b.restart()
	require.Error(t, b.RecoverTask(handle))
}

func TestContainerRemovedByOthers(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	require.NoError(t, b.engine.Remove(t.Context(), b.containers(cfg)[0].ID))
	require.ErrorContains(t, b.wait(cfg.ID).Err, errVanished.Error())
	require.NoError(t, b.DestroyTask(cfg.ID, false))
}

func TestVolumes(t *testing.T) {
	outside := t.TempDir()
	b := newTestbed(t, "")
	for _, hcl := range []string{
		fmt.Sprintf(`volumes = ["%s:/data"]`, outside),
		`volumes = ["../../../../etc:/data"]`,
		fmt.Sprintf("mount {\n type = \"bind\"\n source = %q\n target = \"/data\"\n}", outside),
	} {
		_, _, err := b.StartTask(b.failing("image = \"tiny:lab\"\n" + hcl))
		require.ErrorContains(t, err, "this client does not allow that", hcl)
	}

	cfg := b.task(`
		image   = "tiny:lab"
		volumes = ["local/data:/data"]
		mount {
			type   = "tmpfs"
			target = "/scratch"
		}
		snapshot { policy = "never" }`)
	require.NoError(t, os.MkdirAll(cfg.TaskDir().LocalDir+"/data", 0o777))
	b.start(cfg)
	b.exec(cfg.ID, "touch /data/file /scratch/file")
	require.FileExists(t, cfg.TaskDir().LocalDir+"/data/file")

	enabled := newTestbed(t, `volumes { enabled = true }`)
	cfg = enabled.task(fmt.Sprintf("image = \"tiny:lab\"\nvolumes = [\"%s:/data:ro\"]\nsnapshot { policy = \"never\" }", outside))
	enabled.start(cfg)
	require.Equal(t, "read-only", enabled.exec(cfg.ID, "touch /data/file 2>/dev/null || echo read-only"))
}

// containers lists the engine's containers of a task.
func (b *testbed) containers(cfg *drivers.TaskConfig) []container.Summary {
	b.t.Helper()
	list, err := b.engine.Client.ContainerList(b.t.Context(), container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("label", labelTaskID+"="+cfg.ID)),
	})
	require.NoError(b.t, err)
	return list
}

// requireServes waits until an address answers 200, and returns the answer.
func requireServes(t *testing.T, url string) string {
	t.Helper()
	var body []byte
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		resp, err := http.Get(url)
		require.NoError(c, err)
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
		require.NoError(c, err)
		require.Equal(c, http.StatusOK, resp.StatusCode)
	}, patience, 50*time.Millisecond)
	return string(body)
}

func TestUnknownTask(t *testing.T) {
	b := newTestbed(t, "")
	notFound := drivers.ErrTaskNotFound.Error()
	_, err := b.InspectTask("none")
	require.ErrorContains(t, err, notFound)
	require.ErrorContains(t, b.StopTask("none", 0, ""), notFound)
	require.ErrorContains(t, b.SignalTask("none", "SIGTERM"), notFound)
	require.ErrorContains(t, b.DestroyTask("none", true), notFound)
	_, err = b.ExecTask("none", []string{"true"}, time.Second)
	require.Error(t, err)
	require.True(t, strings.Contains(err.Error(), notFound), err)
}
