package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// TestNomad is the driver in a real agent.
func TestNomad(t *testing.T) {
	eng, err := engine.Connect(t.Context(), "")
	require.NoError(t, err)
	t.Cleanup(func() { eng.Close() })
	c := startCluster(t)
	ref := publishCounter(t, eng, c.store)

	unharmed := besideDockerDriver(t, c, eng)
	t.Run("hot and cold", func(t *testing.T) { testHotAndCold(t, c, ref) })
	t.Run("agent crash", func(t *testing.T) { testAgentRestart(t, c, eng, syscall.SIGKILL) })
	t.Run("agent restart", func(t *testing.T) { testAgentRestart(t, c, eng, syscall.SIGTERM) })
	t.Run("plugin crash", func(t *testing.T) { testPluginCrash(t, c, eng) })
	t.Run("plugin crash during a start", func(t *testing.T) { testPluginCrashDuringStart(t, c, eng) })
	t.Run("stop during a start", func(t *testing.T) { testStopDuringStart(t, c, eng) })
	t.Run("always without snapshot", func(t *testing.T) { testAlwaysWithoutSnapshot(t, c) })
	t.Run("restart after failure", func(t *testing.T) { testRestartAfterFailure(t, c) })
	t.Run("lost clone", func(t *testing.T) { testLostClone(t, c, eng) })
	t.Run("group network", func(t *testing.T) { testGroupNetwork(t, c) })
	t.Run("databases", func(t *testing.T) { testDatabases(t, c) })
	t.Run("example jobs", func(t *testing.T) { testExampleJobs(t, c) })
	t.Run("beside the docker driver", unharmed)
}

var beside = flag.Duration("beside", 0, "how long tasks run beside Nomad's docker driver; 0 for as long as it takes that one to clean up once")

// besideDockerDriver starts a clone, a cold task, and a container that Nomad's docker driver takes for a dangling one of its
// own. When that is removed, the driver has judged all that are older: the returned test waits for it, and finds the tasks as
// they were.
func besideDockerDriver(t *testing.T, c *cluster, eng *engine.Engine) func(*testing.T) {
	t.Helper()
	end := time.Now().Add(*beside)
	allocs := c.run(job("beside", 1, 1, ""))
	decoy := newDecoy(t, eng)
	return func(t *testing.T) {
		for {
			c.eventually(func(t *assert.CollectT) {
				_, err := eng.Client.ContainerInspect(context.Background(), decoy)
				require.True(t, engine.IsNotFound(err))
			})
			for _, alloc := range allocs {
				state := c.refresh(alloc).TaskStates["app"]
				require.Equal(t, "running", state.State)
				require.Zero(t, state.Restarts)
				serve(t, c, alloc)
			}
			if time.Now().After(end) {
				return
			}
			decoy = newDecoy(t, eng)
		}
	}
}

// newDecoy starts a container that looks like one of the docker driver's that its agent does not know.
func newDecoy(t *testing.T, eng *engine.Engine) string {
	t.Helper()
	dir := t.TempDir()
	decoy, err := eng.Create(t.Context(), engine.Spec{
		Name:   "web-" + uuid.Generate(),
		Config: &container.Config{Image: tiny, Entrypoint: []string{"/bin/sleep"}, Cmd: []string{"3600"}},
		Host:   &container.HostConfig{Binds: []string{dir + ":/alloc", dir + ":/local", dir + ":/secrets"}},
	}, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, eng.Remove(context.Background(), decoy)) })
	require.NoError(t, eng.Start(t.Context(), decoy))
	return decoy
}

// job is a service of the counter: so many allocations that must be restored, and so many cold ones.
func job(id string, hot, cold int, network string) string {
	group := func(name, policy string, count int) string {
		if count == 0 {
			return ""
		}
		return fmt.Sprintf(`
  group %q {
    count = %d
    network {
      %s
      port "http" {
        to = 80
      }
    }
    restart {
      attempts = 2
      interval = "10m"
      delay    = "1s"
      mode     = "fail"
    }
    task "app" {
      driver = "criu-docker"
      config {
        image   = "tiny:lab"
        command = "/bin/sh"
        args    = ["-c", %q]
        ports   = ["http/tcp"]
        snapshot {
          policy = %q
        }
      }
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }`, name, count, network, strings.ReplaceAll(counter, "${", "$${"), policy)
	}
	return fmt.Sprintf("job %q {\n%s\n%s\n}", id, group("hot", "always", hot), group("cold", "never", cold))
}

// serve waits until an allocation answers on its port with what is put into its directory.
func serve(t *testing.T, c *cluster, alloc *api.Allocation) {
	t.Helper()
	c.exec(alloc, "echo -n "+alloc.ID+" > /local/index.html")
	port := alloc.AllocatedResources.Shared.Ports[0]
	require.Equal(t, alloc.ID, requireServes(t, "http://"+net.JoinHostPort(port.HostIP, fmt.Sprint(port.Value))+"/"))
}

// Allocations come from the snapshot or boot cold, as their policy says; the events say which, and each is its own.
func testHotAndCold(t *testing.T, c *cluster, ref string) {
	allocs := c.run(job("hot-and-cold", 2, 1, ""))
	hostnames := map[string]bool{}
	for _, alloc := range allocs {
		// Nomad mounts the directory so; what a task has of it must not be less.
		require.Regexp(t, `rw,.*noexec`, c.exec(alloc, "grep ' /secrets ' /proc/1/mountinfo"))
		events := strings.Join(c.events(alloc, 1), "\n")
		if alloc.TaskGroup == "hot" {
			require.Contains(t, events, "Restored from snapshot "+ref+" in ")
			c.exec(alloc, "kill -USR1 1")
			c.eventually(func(t *assert.CollectT) {
				out, err := c.logs(alloc)
				require.NoError(t, err)
				require.Regexp(t, `^count \d+\n$`, out)
			})
		} else {
			require.Contains(t, events, "Cold boot: the policy is never")
			c.eventually(func(t *assert.CollectT) {
				out, err := c.logs(alloc)
				require.NoError(t, err)
				require.Equal(t, "booted\n", out)
			})
		}
		serve(t, c, alloc)
		hostname := c.exec(alloc, "hostname")
		require.Equal(t, "app-"+alloc.ID[:8], hostname)
		hostnames[hostname] = true
		require.Contains(t, c.exec(alloc, "cat /local/criu-docker.env"), "NOMAD_ALLOC_ID='"+alloc.ID+"'\n")
	}
	require.Len(t, hostnames, 3)

	_, _, err := c.api.Jobs().Deregister("hot-and-cold", false, nil)
	require.NoError(t, err)
	c.eventually(func(t *assert.CollectT) {
		for _, alloc := range allocs {
			require.Equal(t, "complete", c.refresh(alloc).ClientStatus)
		}
	})
}

// A clone runs on while the agent is down, and is the agent's again afterwards.
func testAgentRestart(t *testing.T, c *cluster, eng *engine.Engine, signal syscall.Signal) {
	alloc := c.run(job(fmt.Sprintf("agent-restart-%d", signal), 1, 0, ""))[0]
	before := containerOf(t, eng, alloc)
	c.endClient(signal)
	c.startClient()
	requireSameTask(t, c, eng, alloc, before)
}

// The plugin is started anew by the agent and takes up its tasks.
func testPluginCrash(t *testing.T, c *cluster, eng *engine.Engine) {
	alloc := c.run(job("plugin-crash", 1, 0, ""))[0]
	before := containerOf(t, eng, alloc)
	killPlugin(t, c)
	requireSameTask(t, c, eng, alloc, before)
}

// requireSameTask checks that a task still runs in the same container, and that Nomad reads its logs and works with it.
func requireSameTask(t *testing.T, c *cluster, eng *engine.Engine, alloc *api.Allocation, before string) {
	t.Helper()
	c.eventually(func(t *assert.CollectT) { // the agent restores its tasks in the background
		code, err := c.connect(clientHTTP).Allocations().Exec(context.Background(), alloc, "app", false,
			[]string{"kill", "-USR1", "1"}, strings.NewReader(""), discard{}, discard{}, nil, nil)
		require.NoError(t, err)
		require.Zero(t, code)
	})
	c.eventually(func(t *assert.CollectT) {
		out, err := c.logs(alloc)
		require.NoError(t, err)
		require.Regexp(t, `^(count \d+\n)+$`, out)
	})
	require.Equal(t, before, containerOf(t, eng, alloc))
	alloc = c.refresh(alloc)
	require.Equal(t, "running", alloc.ClientStatus)
	require.Zero(t, alloc.TaskStates["app"].Restarts)
	serve(t, c, alloc)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// A clone that fails is restarted by Nomad, from the snapshot again.
func testRestartAfterFailure(t *testing.T, c *cluster) {
	alloc := c.run(job("restart", 1, 0, ""))[0]
	c.exec(alloc, "touch /local/fail")
	c.eventually(func(t *assert.CollectT) {
		state := c.refresh(alloc).TaskStates["app"]
		require.EqualValues(t, 1, state.Restarts)
		require.Equal(t, "running", state.State)
	})
	restored := 0
	for _, e := range c.events(alloc, 2) {
		if strings.HasPrefix(e, "Restored from snapshot ") {
			restored++
		}
	}
	require.Equal(t, 2, restored)
	serve(t, c, alloc)
}

// The tasks of a group share a network namespace that the driver makes and Nomad connects; a snapshot restores into it.
func testGroupNetwork(t *testing.T, c *cluster) {
	hcl := job("group-network", 1, 1, "mode = \"bridge\"\nhostname = \"shop\"\ndns {\nservers = [\"192.0.2.53\"]\nsearches = [\"lan\"]\n}")
	hcl = strings.ReplaceAll(hcl, "config {", "config {\nextra_hosts = [\"db:192.0.2.7\"]\n")
	for _, alloc := range c.run(hcl) {
		serve(t, c, alloc)
		require.NotContains(t, c.exec(alloc, "cat /proc/net/dev"), "docker0")
		require.Equal(t, "shop", c.exec(alloc, "hostname"))
		require.Regexp(t, `(?m)^nameserver 192\.0\.2\.53$`, c.exec(alloc, "cat /etc/resolv.conf"))
		require.Regexp(t, `(?m)^search lan$`, c.exec(alloc, "cat /etc/resolv.conf"))
		hosts := c.exec(alloc, "cat /etc/hosts")
		require.Regexp(t, `(?m)^\S+[ \t]localhost`, hosts)
		require.Regexp(t, `(?m)^172\.26\.\d+\.\d+ shop$`, hosts)
		require.Equal(t, 1, strings.Count(hosts, "192.0.2.7 db"), hosts)
	}
}

// What examples/nomad shows is accepted by Nomad and by the driver's schema.
func testExampleJobs(t *testing.T, c *cluster) {
	files, err := filepath.Glob("../examples/nomad/*.nomad.hcl")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		hcl, err := os.ReadFile(file)
		require.NoError(t, err)
		job, err := c.api.Jobs().ParseHCL(string(hcl), true)
		require.NoError(t, err, file)
		for _, group := range job.TaskGroups {
			for _, task := range group.Tasks {
				require.Equal(t, pluginName, task.Driver)
			}
		}
		plan, _, err := c.api.Jobs().Plan(job, false, nil)
		require.NoError(t, err, file)
		require.Empty(t, plan.Warnings)
		require.Empty(t, plan.FailedTGAllocs)
	}
}

// containerOf returns the id of an allocation's container.
func containerOf(t *testing.T, eng *engine.Engine, alloc *api.Allocation) string {
	t.Helper()
	list, err := eng.Client.ContainerList(t.Context(), container.ListOptions{
		Filters: filters.NewArgs(filters.Arg("label", labelAllocID+"="+alloc.ID), filters.Arg("label", labelTaskID)),
	})
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0].ID
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	exe, err = filepath.EvalSymlinks(exe)
	require.NoError(t, err)
	return exe
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	var pids []int
	for _, file := range tasks {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, field := range strings.Fields(string(content)) {
			var child int
			_, err := fmt.Sscan(field, &child)
			require.NoError(t, err)
			pids = append(pids, child)
		}
	}
	return pids
}
