package main

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/store"
)

func TestBuildErrorsTellWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		err           error
		summary, says string
	}{
		"moved":      {build.ErrImageMoved, "Image Changed Since the Plan", "plan again"},
		"twice":      {errDescribedTwice, "Two Resources Describe the Same Snapshot", "remove one"},
		"conflict":   {store.ErrConflict, "Snapshot Not Published", "apply again"},
		"permission": {fs.ErrPermission, "Snapshot Not Built", "as root"},
		"other":      {build.ErrNotReady, "Snapshot Not Built", "did not become ready"},
	} {
		t.Run(name, func(t *testing.T) {
			d := buildError(fmt.Errorf("web: %w", tc.err))
			if d.Summary() != tc.summary || !strings.Contains(d.Detail(), tc.says) || !strings.Contains(d.Detail(), "web: ") {
				t.Errorf("%s: %s", d.Summary(), d.Detail())
			}
		})
	}
}

func TestDockerHosts(t *testing.T) {
	for host, ok := range map[string]bool{
		"unix:///var/run/docker.sock": true,
		"tcp://127.0.0.1:2375":        true,
		"tcp://[::1]:2375":            true,
		"tcp://localhost:2375":        true,
		"tcp://10.0.0.7:2376":         false,
		"tcp://docker.example.com:1":  false,
		"ssh://root@build-7":          false,
		"npipe:////./pipe/docker":     false,
		"/var/run/docker.sock":        false,
	} {
		if err := checkDockerHost(host); (err == nil) != ok {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestRemoteEngineInTheEnvironment: DOCKER_HOST is looked at as the provider's `host` is.
func TestRemoteEngineInTheEnvironment(t *testing.T) {
	t.Setenv("DOCKER_HOST", "ssh://root@build-7")
	_, err := (&backends{}).openEngine(t.Context())
	if err == nil || !strings.Contains(err.Error(), `DOCKER_HOST = "ssh://root@build-7"`) || !strings.Contains(err.Error(), "on the machine that the engine runs on") {
		t.Errorf("got %v", err)
	}
}
