package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/hashicorp/nomad/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// moments of a start at which something else happens, each told by what can be seen of it.
var moments = []struct {
	name string
	seen func(c container.Summary) bool
}{
	{"created", func(container.Summary) bool { return true }},
	{"requested", func(c container.Summary) bool {
		_, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadRequest(c.ID)
		return err == nil
	}},
	{"running", func(c container.Summary) bool { return c.State == container.StateRunning }},
}

// The plugin dies in the middle of a start: Nomad starts it and the task again, and of the first attempt nothing is left.
func testPluginCrashDuringStart(t *testing.T, c *cluster, eng *engine.Engine) {
	for _, m := range moments {
		id := "crash-" + m.name
		c.register(job(id, 1, 0, ""))
		first := c.awaitContainer(eng, id, m.seen)
		killPlugin(t, c)

		alloc := c.running(id, 1)[0]
		serve(t, c, alloc)
		now := containerOf(t, eng, alloc)
		t.Logf("killed when the container was %s; the start was interrupted: %t", m.name, now != first)
		if now != first {
			requireGone(t, c.cacheDir(), first)
		}
		_, _, err := c.api.Jobs().Deregister(id, true, nil)
		require.NoError(t, err)
		requireGone(t, c.cacheDir(), now)
	}
}

// A job is stopped while its task is being restored: the task ends, and nothing is left.
func testStopDuringStart(t *testing.T, c *cluster, eng *engine.Engine) {
	for _, m := range moments {
		id := "stop-" + m.name
		c.register(job(id, 1, 0, ""))
		first := c.awaitContainer(eng, id, m.seen)
		_, _, err := c.api.Jobs().Deregister(id, false, nil)
		require.NoError(t, err)
		c.eventually(func(t *assert.CollectT) {
			list, _, err := c.api.Jobs().Allocations(id, true, nil)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, "complete", list[0].ClientStatus)
		})
		requireGone(t, c.cacheDir(), first)
	}
}

// With policy "always" a task whose snapshot does not fit fails at once, with the misfit, and is not tried again here; one
// that has no snapshot is, as there may be one by then.
func testAlwaysWithoutSnapshot(t *testing.T, c *cluster) {
	hcl := job("misfit", 1, 0, "")
	hcl = strings.Replace(hcl, "config {", "env { DEBUG = \"1\" }\nconfig {", 1)
	state := c.failed(hcl, "misfit")
	require.Zero(t, state.Restarts)
	require.Contains(t, failures(state), "the container sets the environment variable DEBUG, which the snapshot does not have")

	hcl = strings.Replace(job("none", 1, 0, ""), `image   = "tiny:lab"`, `image = "pause:lab"`, 1)
	state = c.failed(hcl, "none")
	require.EqualValues(t, 2, state.Restarts)
	require.Contains(t, failures(state), "no fitting snapshot: "+c.store+" has none of image sha256:")
}

// failed runs a job until its one task has failed.
func (c *cluster) failed(hcl, id string) *api.TaskState {
	c.t.Helper()
	// Nomad would try elsewhere, which is here.
	hcl = strings.Replace(hcl, "restart {", "reschedule {\nattempts = 0\nunlimited = false\n}\nrestart {", 1)
	c.register(hcl)
	var state *api.TaskState
	c.eventually(func(t *assert.CollectT) {
		list, _, err := c.api.Jobs().Allocations(id, true, nil)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, "failed", list[0].ClientStatus)
		state = list[0].TaskStates["app"]
	})
	return state
}

func failures(state *api.TaskState) string {
	var messages []string
	for _, e := range state.Events {
		if e.Type == api.TaskDriverFailure {
			messages = append(messages, e.DisplayMessage)
		}
	}
	return strings.Join(messages, "\n")
}

// awaitContainer returns the id of the container of a job's task as soon as it is in a certain state.
func (c *cluster) awaitContainer(eng *engine.Engine, jobID string, seen func(container.Summary) bool) string {
	c.t.Helper()
	prefix := "/nomad-app-"
	var id string
	c.promptly(func(t *assert.CollectT) {
		list, _, err := c.api.Jobs().Allocations(jobID, true, nil)
		require.NoError(t, err)
		require.NotEmpty(t, list)
		containers, err := eng.Client.ContainerList(c.t.Context(), container.ListOptions{
			All: true, Filters: filters.NewArgs(filters.Arg("label", labelAllocID+"="+list[0].ID), filters.Arg("label", labelTaskID)),
		})
		require.NoError(t, err)
		require.Len(t, containers, 1)
		require.True(t, strings.HasPrefix(containers[0].Names[0], prefix))
		require.True(t, seen(containers[0]))
		id = containers[0].ID
	})
	return id
}

func (c *cluster) cacheDir() string { return filepath.Join(c.dir, "cache") }

// killPlugin ends the client's plugin process as a crash would.
func killPlugin(t *testing.T, c *cluster) {
	t.Helper()
	killed := 0
	for _, pid := range childrenOf(t, c.client.Process.Pid) {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe == self(t) {
			p, err := os.FindProcess(pid)
			require.NoError(t, err)
			require.NoError(t, p.Kill())
			killed++
		}
	}
	require.Equal(t, 1, killed)
}
