package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// onBothNodes runs one allocation on each node; one that cannot be restored fails.
const onBothNodes = `
job "web" {
  constraint {
    operator = "distinct_hosts"
    value    = "true"
  }
  group "web" {
    count = 2
    network {
      port "http" {
        to = 80
      }
    }
    task "web" {
      driver = "criu-docker"
      config {
        image = "tiny:lab"
        ports = ["http/tcp"]
        snapshot {
          policy = "always"
        }
      }
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
`

// allocation is what this test reads of one.
type allocation struct {
	ID           string
	NodeName     string
	ClientStatus string
	TaskStates   map[string]struct {
		Events []struct{ DisplayMessage string }
	}
	AllocatedResources struct {
		Shared struct {
			Ports []struct {
				Value  int
				HostIP string
			}
		}
	}
}

// Two nodes of one Nomad cluster share a bucket: what one of them froze starts on both.
func TestSnapshotOfOneNodeRestoresOnAnother(t *testing.T) {
	l := newTestLab(t)
	dir := t.TempDir()
	var binaries []string
	for name, pkg := range map[string]string{
		"criu-docker": "../../shared/cmd/criu-docker", "criu-docker-runc": "../../shared/cmd/criu-docker-runc",
		"nomad-driver-criu-docker": "../../nomad-driver",
	} {
		binaries = append(binaries, filepath.Join(dir, name))
		build := exec.Command("go", "build", "-tags", "disable_grpc_modules", "-o", filepath.Join(dir, name), pkg)
		build.Env = append(build.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	l.must(t, "up", "--nodes", "2", "--images", "tiny", "--install", strings.Join(binaries, ","))

	l.must(t, "exec", "--", "criu-docker", "build", "tiny:lab", "--nomad", "--ready", "http://:80/", "--store", "gs://"+gcsBucket)
	job := filepath.Join(dir, "web.nomad.hcl")
	if err := os.WriteFile(job, []byte(onBothNodes), 0o600); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "both nodes can run tasks", func() bool {
		out, _ := l.command("exec", "--", "nomad", "node", "status", "-t",
			`{{range .}}{{.Status}} {{with index .Drivers "criu-docker"}}{{.Healthy}}{{end}},{{end}}`).Output()
		return strings.TrimSpace(string(out)) == "ready true,ready true,"
	})
	l.must(t, "exec", "--", "nomad", "job", "run", "-detach", hostRoot+job)
	var allocs []allocation
	waitUntil(t, "both allocations run", func() bool {
		allocs = l.allocations(t, "web")
		return len(allocs) == 2 && !slices.ContainsFunc(allocs, func(a allocation) bool { return a.ClientStatus != "running" })
	})

	nodes := map[string]bool{}
	for _, a := range allocs {
		nodes[a.NodeName] = true
		events := fmt.Sprint(a.TaskStates["web"].Events)
		if !strings.Contains(events, "Restored from snapshot ") {
			t.Errorf("on %s the events of the task are %s", a.NodeName, events)
		}
		if len(a.AllocatedResources.Shared.Ports) != 1 {
			t.Fatalf("on %s the task has the ports %v", a.NodeName, a.AllocatedResources.Shared.Ports)
		}
		port := a.AllocatedResources.Shared.Ports[0]
		page := l.must(t, "exec", "--", "curl", "-sf", "http://"+net.JoinHostPort(port.HostIP, strconv.Itoa(port.Value))+"/")
		if !strings.Contains(page, "It works") {
			t.Errorf("the clone on %s answers %q", a.NodeName, page)
		}
		hostname := l.must(t, "exec", "--", "nomad", "alloc", "exec", a.ID, "hostname")
		if want := "web-" + a.ID[:8] + "\n"; hostname != want {
			t.Errorf("the clone on %s has the hostname %q, want %q", a.NodeName, hostname, want)
		}
	}
	if len(nodes) != 2 {
		t.Errorf("the allocations are on %v, want two nodes", nodes)
	}
}

// allocations returns those of a job.
func (l *testLab) allocations(t *testing.T, job string) []allocation {
	t.Helper()
	out, err := l.command("exec", "--", "nomad", "job", "allocs", "-json", job).Output()
	if err != nil {
		t.Fatalf("allocations of %s: %v\n%s", job, err, out)
	}
	var stubs, allocs []allocation
	if err := json.Unmarshal(out, &stubs); err != nil {
		t.Fatalf("allocations of %s: %v\n%s", job, err, out)
	}
	for _, stub := range stubs {
		out, err := l.command("exec", "--", "nomad", "alloc", "status", "-json", stub.ID).Output()
		if err != nil {
			t.Fatalf("allocation %s: %v\n%s", stub.ID, err, out)
		}
		var a allocation
		if err := json.Unmarshal(out, &a); err != nil {
			t.Fatalf("allocation %s: %v\n%s", stub.ID, err, out)
		}
		allocs = append(allocs, a)
	}
	return allocs
}
