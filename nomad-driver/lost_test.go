package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/nomad/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// ballastMiB is memory enough for a test to step in before a page server has filled it in.
const ballastMiB = 512

var ballastJob = fmt.Sprintf(`job "lost" {
  group "hot" {
    network {
      port "http" {
        to = 80
      }
    }
    restart {
      attempts = 1
      interval = "10m"
      delay    = "1s"
      mode     = "fail"
    }
    task "app" {
      driver = "criu-docker"
      config {
        image = "ballast:lab"
        args  = ["%d"]
        ports = ["http/tcp"]
        snapshot {
          policy = "always"
          memory = "lazy"
        }
      }
      resources {
        cpu    = 100
        memory = %d
      }
    }
  }
}`, ballastMiB, 2*ballastMiB)

// A clone whose page server dies before all of its memory is there is killed. The task's events say why, and Nomad's restart
// policy brings it back, from the snapshot again.
func testLostClone(t *testing.T, c *cluster, eng *engine.Engine) {
	publishSnapshot(t, eng, c.store, container.Config{Image: "ballast:lab", Cmd: []string{strconv.Itoa(ballastMiB)}},
		build.Probe{Type: build.ProbeHTTP, Port: 80, Path: "/"})
	c.register(ballastJob)
	server := c.stopPageServer()
	t.Cleanup(func() { _ = syscall.Kill(server, syscall.SIGKILL) }) // a stopped process waits for ever
	alloc := c.running("lost", 1)[0]
	require.NoError(t, syscall.Kill(server, syscall.SIGKILL))

	c.eventually(func(t *assert.CollectT) {
		state := c.refresh(alloc).TaskStates["app"]
		require.EqualValues(t, 1, state.Restarts)
		require.Equal(t, "running", state.State)
	})
	const why = "the clone was killed before all of its memory was there: page server: it was killed"
	events := c.events(alloc, 3)
	require.Len(t, events, 3, events)
	require.Contains(t, events[0], "Restored from snapshot ")
	require.Contains(t, events[1], "Lost: "+why)
	require.Contains(t, events[2], "Restored from snapshot ")
	alloc = c.refresh(alloc)
	var ends []string
	for _, e := range alloc.TaskStates["app"].Events {
		if e.Type == api.TaskTerminated {
			ends = append(ends, e.DisplayMessage)
		}
	}
	require.Len(t, ends, 1)
	require.Contains(t, ends[0], "137")
	require.Contains(t, ends[0], why)
	port := alloc.AllocatedResources.Shared.Ports[0]
	requireServes(t, "http://"+net.JoinHostPort(port.HostIP, strconv.Itoa(port.Value))+"/all")

	_, _, err := c.api.Jobs().Deregister("lost", true, nil) // its memory is needed
	require.NoError(t, err)
}

// stopPageServer waits until a page server has filled in some of the memory of a clone of this cluster, stops it over that,
// and returns its pid.
func (c *cluster) stopPageServer() int {
	c.t.Helper()
	const some = ballastMiB << 20 / 8
	server, id := 0, ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // without a pause: it is a matter of milliseconds
		switch {
		case server == 0:
			server, id = c.pageServer()
		case resident(id) > some:
			require.NoError(c.t, syscall.Kill(server, syscall.SIGSTOP), "it was done too soon")
			return server
		}
	}
	require.FailNow(c.t, "no page server in time")
	return 0
}

// pageServer returns the pid of a page server of this cluster and the id of its container; 0 if there is none.
func (c *cluster) pageServer() (int, string) {
	c.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(c.t, err)
	for _, file := range files {
		line, _ := os.ReadFile(file) // most others end meanwhile
		args := strings.Split(string(line), "\x00")
		if filepath.Base(args[0]) != ociruntime.PagesName {
			continue
		}
		request, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadRequest(args[1])
		if err != nil || !strings.HasPrefix(request.CheckpointDir, c.cacheDir()) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		require.NoError(c.t, err)
		return pid, args[1]
	}
	return 0, ""
}

// resident is how many bytes of the memory of a container's first task are there; 0 if that can't be told.
func resident(id string) int {
	content, err := os.ReadFile(filepath.Join(ociruntime.DefaultRunDir, "containers", id, "task.json"))
	if err != nil {
		return 0
	}
	var task struct{ Pid int }
	if json.Unmarshal(content, &task) != nil {
		return 0
	}
	content, err = os.ReadFile(fmt.Sprintf("/proc/%d/statm", task.Pid))
	if err != nil {
		return 0
	}
	var size, pages int
	if _, err := fmt.Sscan(string(content), &size, &pages); err != nil {
		return 0
	}
	return pages * os.Getpagesize()
}
