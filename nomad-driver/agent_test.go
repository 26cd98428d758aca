package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cluster is a Nomad server and a client that runs this test binary as its plugin. Both end with the test.
type cluster struct {
	t      *testing.T
	api    *api.Client
	dir    string
	store  string // directory of the plugin's snapshots
	client *exec.Cmd
	agents []*exec.Cmd
	ports  []int
}

// The ports of the two agents, in the order in which ports holds them.
const (
	serverHTTP = iota
	serverRPC
	serverSerf
	clientHTTP
	numPorts
)

const agentCommon = `
bind_addr            = "127.0.0.1"
disable_update_check = true
advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}
consul {
  auto_advertise   = false
  client_auto_join = false
  server_auto_join = false
}
`

// startCluster returns when the client is ready to run tasks.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	c.store = filepath.Join(c.dir, "store")
	require.NoError(t, os.Chmod(c.dir, 0o755))
	for range numPorts {
		c.ports = append(c.ports, freePort(t))
	}
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(c.dir, "plugins"), 0o700))
	require.NoError(t, os.Symlink(self, filepath.Join(c.dir, "plugins", pluginBlock)))

	c.write("server.hcl", agentCommon+fmt.Sprintf(`
data_dir = %q
ports {
  http = %d
  rpc  = %d
  serf = %d
}
server {
  enabled          = true
  bootstrap_expect = 1
}`, filepath.Join(c.dir, "server"), c.ports[serverHTTP], c.ports[serverRPC], c.ports[serverSerf]))
	cgroup := fmt.Sprintf("criu-docker-test-%d", os.Getpid())
	c.write("client.hcl", agentCommon+fmt.Sprintf(`
data_dir   = %q
plugin_dir = %q
ports {
  http = %d
}
client {
  enabled           = true
  servers           = ["127.0.0.1:%d"]
  cpu_total_compute = 4000
  memory_total_mb   = 4096
  network_interface = "lo"
  cni_path          = "/usr/lib/cni"
  cgroup_parent     = %q
  options = {
    "driver.allowlist"     = "criu-docker,docker"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault"
  }
}
plugin "docker" {
  config {
    gc {
      dangling_containers {
        period         = "1s"
        creation_grace = "1m" # its minimum
      }
    }
  }
}
plugin %q {
  config {
    infra_image = "pause:lab"
    snapshot {
      store = %q
    }
    cache {
      dir = %q
    }
  }
}`, filepath.Join(c.dir, "client"), filepath.Join(c.dir, "plugins"), c.ports[clientHTTP], c.ports[serverRPC], cgroup,
		pluginBlock, c.store, filepath.Join(c.dir, "cache")))
	t.Cleanup(func() { removeCgroups(t, cgroup) })

	t.Cleanup(c.stop)
	// A client that is there before its server has a leader and keys waits half a minute until it tries again.
	c.agent("server.hcl")
	server := c.connect(serverHTTP)
	c.eventually(func(t *assert.CollectT) {
		keys, _, err := server.Keyring().List(nil)
		require.NoError(t, err)
		require.NotEmpty(t, keys)
	})
	c.api = server
	c.startClient()
	return c
}

// startClient starts the client agent and waits until its driver is healthy.
func (c *cluster) startClient() {
	c.t.Helper()
	c.client = c.agent("client.hcl")
	c.eventually(func(t *assert.CollectT) {
		nodes, _, err := c.api.Nodes().List(nil)
		require.NoError(t, err)
		require.Len(t, nodes, 1)
		require.Equal(t, "ready", nodes[0].Status)
		require.Contains(t, nodes[0].Drivers, pluginName)
		require.True(t, nodes[0].Drivers[pluginName].Healthy, nodes[0].Drivers[pluginName].HealthDescription)
	})
}

// endClient ends the client agent: by SIGTERM with its plugin, by SIGKILL without. The tasks' containers run on.
func (c *cluster) endClient(signal syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.client.Process.Signal(signal))
	_ = c.client.Wait()
}

// run registers a job and returns its allocations once all of them have begun to run.
func (c *cluster) run(hcl string) []*api.Allocation {
	c.t.Helper()
	job := c.register(hcl)
	want := 0
	for _, g := range job.TaskGroups {
		want += *g.Count
	}
	return c.running(*job.ID, want)
}

func (c *cluster) register(hcl string) *api.Job {
	c.t.Helper()
	job, err := c.api.Jobs().ParseHCL(hcl, true)
	require.NoError(c.t, err)
	_, _, err = c.api.Jobs().Register(job, nil)
	require.NoError(c.t, err)
	return job
}

// running returns a job's allocations, so many, once all of them run.
func (c *cluster) running(jobID string, want int) []*api.Allocation {
	c.t.Helper()
	var allocs []*api.Allocation
	c.eventually(func(t *assert.CollectT) {
		list, _, err := c.api.Jobs().Allocations(jobID, true, nil)
		require.NoError(t, err)
		require.Len(t, list, want)
		allocs = nil
		for _, stub := range list {
			alloc, _, err := c.api.Allocations().Info(stub.ID, nil)
			require.NoError(t, err)
			require.Equal(t, "running", alloc.ClientStatus, strings.Join(driverEvents(alloc), "\n"))
			allocs = append(allocs, alloc)
		}
	})
	return allocs
}

// stop ends the jobs and then the agents, clients before the server.
func (c *cluster) stop() {
	defer func() {
		for _, agent := range slices.Backward(c.agents) {
			_ = agent.Process.Signal(syscall.SIGINT)
			_ = agent.Wait()
		}
	}()
	if c.api != nil {
		c.stopJobs()
	}
}

// stopJobs ends every job, and returns when the tasks' containers are gone.
func (c *cluster) stopJobs() {
	jobs, _, err := c.api.Jobs().List(nil)
	require.NoError(c.t, err)
	for _, job := range jobs {
		_, _, err := c.api.Jobs().Deregister(job.ID, false, nil)
		require.NoError(c.t, err)
	}
	c.eventually(func(t *assert.CollectT) {
		allocs, _, err := c.api.Allocations().List(nil)
		require.NoError(t, err)
		for _, a := range allocs {
			require.NotEqual(t, "running", a.ClientStatus)
		}
	})
	require.NoError(c.t, c.api.System().GarbageCollect())
	c.eventually(func(t *assert.CollectT) { // the client unmounts what it mounted for them
		left, err := os.ReadDir(filepath.Join(c.dir, "client", "alloc"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// driverEvents are the messages of the driver among the events of an allocation's task.
func driverEvents(alloc *api.Allocation) []string {
	var messages []string
	for _, state := range alloc.TaskStates {
		for _, e := range state.Events {
			if e.Type == api.TaskDriverMessage || e.Type == api.TaskDriverFailure {
				messages = append(messages, e.DisplayMessage)
			}
		}
	}
	return messages
}

// events waits for so many messages of the driver, and returns an allocation's: Nomad's client tells them later than the state of a task.
func (c *cluster) events(alloc *api.Allocation, want int) []string {
	c.t.Helper()
	var messages []string
	c.eventually(func(t *assert.CollectT) {
		messages = driverEvents(c.refresh(alloc))
		require.GreaterOrEqual(t, len(messages), want, messages)
	})
	return messages
}

// refresh reads an allocation again.
func (c *cluster) refresh(alloc *api.Allocation) *api.Allocation {
	c.t.Helper()
	alloc, _, err := c.api.Allocations().Info(alloc.ID, nil)
	require.NoError(c.t, err)
	return alloc
}

// exec runs a shell command in an allocation's task and returns its output.
func (c *cluster) exec(alloc *api.Allocation, script string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	var out strings.Builder
	code, err := c.connect(clientHTTP).Allocations().Exec(ctx, alloc, "app", false, []string{"/bin/sh", "-c", script},
		strings.NewReader(""), &out, &out, nil, nil)
	require.NoError(c.t, err, out.String())
	require.Zero(c.t, code, out.String())
	return strings.TrimSpace(out.String())
}

// logs returns what an allocation's task has written to its standard output.
func (c *cluster) logs(alloc *api.Allocation) (string, error) {
	frames, errs := c.connect(clientHTTP).AllocFS().Logs(alloc, false, "app", "stdout", "start", 0, nil, nil)
	var out strings.Builder
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return out.String(), nil
			}
			out.Write(f.Data)
		case err := <-errs:
			return out.String(), err
		}
	}
}

func (c *cluster) connect(port int) *api.Client {
	c.t.Helper()
	client, err := api.NewClient(&api.Config{Address: fmt.Sprintf("http://127.0.0.1:%d", c.ports[port])})
	require.NoError(c.t, err)
	return client
}

func (c *cluster) eventually(condition func(*assert.CollectT)) {
	c.t.Helper()
	require.EventuallyWithT(c.t, condition, patience, 100*time.Millisecond)
}

// promptly is eventually for what is soon over.
func (c *cluster) promptly(condition func(*assert.CollectT)) {
	c.t.Helper()
	require.EventuallyWithT(c.t, condition, patience, 2*time.Millisecond)
}

func (c *cluster) write(name, content string) {
	c.t.Helper()
	require.NoError(c.t, os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600))
}

// agent starts an agent; its log is shown if the test fails.
func (c *cluster) agent(config string) *exec.Cmd {
	c.t.Helper()
	logFile := filepath.Join(c.dir, config+".log")
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(c.t, err)
	defer out.Close()
	cmd := exec.Command("nomad", "agent", "-log-level", "debug", "-config", filepath.Join(c.dir, config))
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(c.t, cmd.Start())
	c.agents = append(c.agents, cmd)
	c.t.Cleanup(func() {
		if c.t.Failed() {
			content, _ := os.ReadFile(logFile)
			c.t.Logf("%s:\n%s", config, content[max(0, len(content)-20_000):])
		}
	})
	return cmd
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// removeCgroups removes the (empty) cgroups that an agent leaves behind.
func removeCgroups(t *testing.T, name string) {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	require.NoError(t, err)
	for _, root := range append(roots, "/sys/fs/cgroup/"+name) {
		var dirs []string
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Logf("cgroup %s: %v", root, err)
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = os.Remove(dirs[i])
		}
	}
}
