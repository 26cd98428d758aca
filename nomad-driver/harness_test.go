package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// tiny is the smallest image there is: busybox, its httpd serving on port 80.
const tiny = "tiny:lab"

// patience bounds what is waited for in these tests.
const patience = 2 * time.Minute

// testbed is a driver behind the gRPC connection that Nomad uses, with a node's real Docker.
type testbed struct {
	*testutils.DriverHarness
	t      *testing.T
	driver *Driver
	engine *engine.Engine
	events <-chan *drivers.TaskEvent
	config []byte
	nodeID string

	cacheDir string
}

// newTestbed starts a driver with a plugin configuration. Cache and store are the test's own.
func newTestbed(t *testing.T, hcl string) *testbed {
	t.Helper()
	dir := t.TempDir()
	if !strings.Contains(hcl, "snapshot {") {
		hcl += fmt.Sprintf("\nsnapshot { store = %q }", filepath.Join(dir, "store"))
	}
	cacheDir := filepath.Join(dir, "cache")
	hcl += fmt.Sprintf("\ncache { dir = %q }", cacheDir)
	eng, err := engine.Connect(t.Context(), "")
	require.NoError(t, err)
	t.Cleanup(func() { eng.Close() })
	b := &testbed{t: t, engine: eng, config: encodePlugin(t, hcl), nodeID: uuid.Generate(), cacheDir: cacheDir}
	t.Cleanup(b.removeContainers)
	b.restart()
	return b
}

// removeContainers removes what the test's tasks left, whatever became of the driver.
func (b *testbed) removeContainers() {
	ctx := context.Background()
	left, err := b.engine.Client.ContainerList(ctx, container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("label", labelNodeID+"="+b.nodeID)),
	})
	assert.NoError(b.t, err)
	for _, c := range left {
		assert.NoError(b.t, restore.Remove(ctx, b.engine, nil, c.ID))
	}
	if c, err := cache.Open(b.cacheDir, 0); assert.NoError(b.t, err) {
		assert.NoError(b.t, restore.Sweep(ctx, b.engine, c))
	}
}

// restart replaces the driver by a new one, as when the plugin process died.
func (b *testbed) restart() {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := NewDriver(ctx, hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: testWriter{b.t}}))
	if b.DriverHarness != nil {
		b.Kill()
	}
	b.driver, b.DriverHarness = d, testutils.NewDriverHarness(b.t, d)
	b.t.Cleanup(cancel)
	require.NoError(b.t, b.SetConfig(&base.Config{PluginConfig: b.config}))
	events, err := b.TaskEvents(ctx)
	require.NoError(b.t, err)
	b.events = events
}

// testWriter shows the driver's log with the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil { // a goroutine of an ending driver may still log
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// task makes a task with an allocation directory and log collection.
func (b *testbed) task(hcl string, edit ...func(*drivers.TaskConfig)) *drivers.TaskConfig {
	b.t.Helper()
	return b.newTask(hcl, true, edit)
}

// failing makes a task that will not start. It has no log collection, which would wait seconds for a container's output.
func (b *testbed) failing(hcl string, edit ...func(*drivers.TaskConfig)) *drivers.TaskConfig {
	b.t.Helper()
	return b.newTask(hcl, false, edit)
}

func (b *testbed) newTask(hcl string, logs bool, edit []func(*drivers.TaskConfig)) *drivers.TaskConfig {
	b.t.Helper()
	allocID := uuid.Generate()
	cfg := &drivers.TaskConfig{
		ID:        allocID + "/web/" + uuid.Short(),
		AllocID:   allocID,
		Name:      "web",
		JobName:   "shop",
		NodeID:    b.nodeID,
		Namespace: "default",
		Env:       map[string]string{},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{
				Cpu:    structs.AllocatedCpuResources{CpuShares: 100},
				Memory: structs.AllocatedMemoryResources{MemoryMB: 64},
			},
			LinuxResources: &drivers.LinuxResources{CPUShares: 100, MemoryLimitBytes: 64 << 20, PercentTicks: 0.1},
		},
	}
	for _, e := range edit {
		e(cfg)
	}
	require.NoError(b.t, cfg.EncodeConcreteDriverConfig(parseTask(b.t, hcl)))
	b.t.Cleanup(b.MkAllocDir(cfg, logs))
	return cfg
}

// start starts a task. Its container is removed when the test ends.
func (b *testbed) start(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork) {
	b.t.Helper()
	handle, net, err := b.StartTask(cfg)
	require.NoError(b.t, err)
	return handle, net
}

// wait returns how the task ended.
func (b *testbed) wait(taskID string) *drivers.ExitResult {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	result, err := b.WaitTask(ctx, taskID)
	require.NoError(b.t, err)
	select {
	case r := <-result:
		require.NotNil(b.t, r, "the task did not end in time")
		return r
	case <-ctx.Done():
		require.FailNow(b.t, "the task did not end in time")
		return nil
	}
}

// event returns the next task event that begins with prefix.
func (b *testbed) event(prefix string) *drivers.TaskEvent {
	b.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case e := <-b.events:
			if strings.HasPrefix(e.Message, prefix) {
				return e
			}
			b.t.Logf("event: %s", e.Message)
		case <-timeout:
			require.FailNow(b.t, "no event in time", prefix)
		}
	}
}

// logged waits until a task's log file (stream is "stdout" or "stderr") has exactly this content.
func (b *testbed) logged(cfg *drivers.TaskConfig, stream, content string) {
	b.t.Helper()
	file := filepath.Join(cfg.TaskDir().LogDir, cfg.Name+"."+stream+".0")
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		got, err := os.ReadFile(file)
		require.NoError(c, err)
		require.Equal(c, content, string(got))
	}, patience, 50*time.Millisecond)
}

// output returns a task's log file (stream is "stdout" or "stderr") once it holds a line.
func (b *testbed) output(cfg *drivers.TaskConfig, stream string) string {
	b.t.Helper()
	var content []byte
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		var err error
		content, err = os.ReadFile(filepath.Join(cfg.TaskDir().LogDir, cfg.Name+"."+stream+".0"))
		require.NoError(c, err)
		require.Contains(c, string(content), "\n")
	}, patience, 50*time.Millisecond)
	return string(content)
}

// exec runs a shell command in the task and returns its standard output.
func (b *testbed) exec(taskID, script string) string {
	b.t.Helper()
	res, err := b.ExecTask(taskID, []string{"/bin/sh", "-c", script}, patience)
	require.NoError(b.t, err)
	require.Equal(b.t, 0, res.ExitResult.ExitCode, "%s%s", res.Stdout, res.Stderr)
	return strings.TrimSpace(string(res.Stdout))
}
