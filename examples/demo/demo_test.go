package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

const ref = "66ed594e819a4c1b6f0de1a7/5f0b4f6dd6f1a685/amd64"

// event is one of the driver's about a start.
func event(start restore.Start, message string) *api.TaskEvent {
	return &api.TaskEvent{Type: "Driver", DisplayMessage: message, Details: map[string]string{"start": string(start), "snapshot": ref}}
}

func allocation(events ...*api.TaskEvent) *api.Allocation {
	return &api.Allocation{TaskStates: map[string]*api.TaskState{task: {Events: events}}}
}

// What counts is the last start: a task that was restarted cold is not hot because it has been before.
func TestStartOf(t *testing.T) {
	start, message, err := startOf(allocation(
		&api.TaskEvent{Type: "Received"},
		event(restore.Hot, "Restored from snapshot "+ref+" in 0.4s"),
		&api.TaskEvent{Type: "Started"},
	))
	require.NoError(t, err)
	assert.Equal(t, restore.Hot, start)
	assert.Equal(t, "Restored from snapshot 66ed594e819a in 0.4s", message)

	start, message, err = startOf(allocation(event(restore.Hot, "Restored"), event(restore.Cold, "Cold boot: no snapshot")))
	require.NoError(t, err)
	assert.Equal(t, restore.Cold, start)
	assert.Equal(t, "Cold boot: no snapshot", message)

	_, _, err = startOf(allocation(&api.TaskEvent{Type: "Started"}))
	assert.ErrorContains(t, err, "has not told")
	_, _, err = startOf(&api.Allocation{})
	assert.ErrorContains(t, err, "no task")
}

// The clock starts with the first attempt to start the task.
func TestSetUp(t *testing.T) {
	begin := time.Unix(1_700_000_000, 5)
	alloc := allocation(
		&api.TaskEvent{Type: api.TaskReceived, Time: begin.Add(-time.Second).UnixNano()},
		&api.TaskEvent{Type: api.TaskSetup, Time: begin.UnixNano()},
		&api.TaskEvent{Type: api.TaskSetup, Time: begin.Add(time.Minute).UnixNano()},
	)
	assert.True(t, begin.Equal(setUp(alloc)))
}

func TestDistinct(t *testing.T) {
	require.NoError(t, distinct([]row{{alloc: "a", hostname: "app-a"}, {alloc: "b", hostname: "app-b"}}))
	assert.ErrorContains(t, distinct([]row{{alloc: "a", hostname: "app"}, {alloc: "b", hostname: "app"}}), `a and b have the same hostname "app"`)
}

// Only 200 is an answer; what the app redirects to is another page.
func TestGet(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/login" {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer s.Close()
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	alloc := &api.Allocation{AllocatedResources: &api.AllocatedResources{}}
	_, err = get(t.Context(), alloc, "/login")
	require.ErrorContains(t, err, "no port")
	alloc.AllocatedResources.Shared.Ports = []api.PortMapping{{Label: portLabel, HostIP: u.Hostname(), Value: port}}

	status, err := get(t.Context(), alloc, "/login")
	require.NoError(t, err)
	assert.Equal(t, "200 OK", status)
	_, err = get(t.Context(), alloc, "/")
	assert.ErrorContains(t, err, "502")
}

func TestCollect(t *testing.T) {
	frames, errs := make(chan *api.StreamFrame, 2), make(chan error, 1)
	frames <- &api.StreamFrame{Data: []byte("Puma ")}
	frames <- &api.StreamFrame{Data: []byte("starting")}
	close(frames)
	var b strings.Builder
	require.NoError(t, collect(&b, frames, errs))
	assert.Equal(t, "Puma starting", b.String())

	errs <- errors.New("no such file")
	assert.ErrorContains(t, collect(&b, make(chan *api.StreamFrame), errs), "no such file")
}

// The table names what was checked, and survives a message of any length.
func TestShow(t *testing.T) {
	var b strings.Builder
	show(&b, []row{
		{"redmine", "4b7ad4d1", restore.Hot, 1234 * time.Millisecond, "app-4b7ad4d1", "200 OK", "Restored from snapshot 66ed594e819a " + strings.Repeat("and so on ", 20)},
		{"fat-app", "2b06c183", restore.Cold, 12 * time.Second, "app-2b06c183", "200 OK", "Cold boot: the policy is never"},
	})
	for _, want := range []string{"app-4b7ad4d1", "hot", "after 1.2 s", "Cold boot: the policy is never", "fat-app"} {
		assert.Contains(t, b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		assert.LessOrEqual(t, len([]rune(line)), 132)
	}
}

// The demo, the jobs and the Terraform configuration are about the same applications.
func TestExamplesAgree(t *testing.T) {
	configuration, err := os.ReadFile("../terraform/main.tf")
	require.NoError(t, err)
	for _, a := range apps {
		job, err := os.ReadFile(filepath.Join("..", "nomad", a.job+".nomad.hcl"))
		require.NoError(t, err)
		image := strconv.Quote(a.job + ":lab")
		path, err := json.Marshal(a.path)
		require.NoError(t, err)
		for _, want := range []string{image, string(path), strconv.Quote(hotGroup), strconv.Quote(coldGroup), strconv.Quote(task), strconv.Quote(portLabel)} {
			assert.Contains(t, string(job), want, a.job)
		}
		for _, want := range []string{image, string(path)} {
			assert.Contains(t, string(configuration), want)
		}
	}
}
