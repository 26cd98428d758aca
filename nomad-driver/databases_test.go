package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// visit is what the apps of examples/databases answer.
type visit struct {
	Hostname   string
	Requests   int // rows in the database
	Random     string
	Allocation string
}

// Apps are frozen with open connections to a PostgreSQL. Each clone is told by its hook that it is one, and has from then on its own
// hostname, database, random values and variables.
func testDatabases(t *testing.T, c *cluster) {
	for _, app := range []string{"rails", "django", "node"} {
		t.Run(app, func(t *testing.T) {
			build := exec.CommandContext(t.Context(), "sh", "../examples/databases/build.sh", app)
			build.Env = append(os.Environ(), "CRIU_DOCKER_STORE="+c.store)
			var output strings.Builder
			build.Stderr = &output
			ref, err := build.Output()
			require.NoError(t, err, output.String())

			job, err := os.ReadFile("../examples/nomad/" + app + ".nomad.hcl")
			require.NoError(t, err)
			allocs := c.run(string(job))
			defer c.end(app)
			for _, alloc := range allocs { // the allocation has begun to run when its PostgreSQL has
				require.Contains(t, strings.Join(c.events(alloc, 2), "\n"), "Restored from snapshot "+strings.TrimSpace(string(ref))+" in ")
				c.eventually(func(t *assert.CollectT) { require.Equal(t, "running", c.refresh(alloc).TaskStates["app"].State) })
			}
			random := map[string]bool{}
			for requests := 1; requests <= 3; requests++ {
				for _, alloc := range allocs {
					v := visitOf(t, alloc)
					require.Equal(t, visit{"nomad-" + alloc.ID[:8], requests, v.Random, alloc.ID}, v)
					require.NotEmpty(t, v.Random)
					require.False(t, random[v.Random], "%s is not random", v.Random)
					random[v.Random] = true
				}
			}
			for _, alloc := range allocs {
				require.Contains(t, c.exec(alloc, "cat /proc/1/status"), "\nUid:\t1000\t1000\t1000\t1000\n")
			}
		})
	}
}

func visitOf(t *testing.T, alloc *api.Allocation) (v visit) {
	t.Helper()
	port := alloc.AllocatedResources.Shared.Ports[0]
	resp, err := (&http.Client{Timeout: patience}).Get("http://" + net.JoinHostPort(port.HostIP, fmt.Sprint(port.Value)) + "/")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&v))
	return v
}

// end stops a job, and returns when its resources are free.
func (c *cluster) end(jobID string) {
	c.t.Helper()
	_, _, err := c.api.Jobs().Deregister(jobID, false, nil)
	require.NoError(c.t, err)
	c.eventually(func(t *assert.CollectT) {
		allocs, _, err := c.api.Jobs().Allocations(jobID, true, nil)
		require.NoError(t, err)
		for _, a := range allocs {
			require.Equal(t, "complete", a.ClientStatus)
		}
	})
}
