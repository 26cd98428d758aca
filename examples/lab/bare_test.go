package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What the README tells users to do who already have Docker and CRIU, on a machine that knows nothing of criu-docker.
func TestHostWithoutTheRuntimeIsMadeFit(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	l.up(t, "--bare") // not even traces of what the node was
	binaries := t.TempDir()
	build := exec.Command("go", "build", "-tags", "disable_grpc_modules", "-o", binaries+"/", "../../shared/cmd/...")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, name := range []string{"criu-docker", "criu-docker-runc"} {
		l.must(t, "exec", "--", "install", "-m", "755", hostRoot+filepath.Join(binaries, name), "/usr/local/bin/")
	}

	unfit := []string{"checkpoint API", "runtime criu-docker"}
	if failed := l.doctor(t); !slices.Equal(failed, unfit) {
		t.Errorf("before the installation the doctor misses %q, want %q", failed, unfit)
	}
	l.must(t, "exec", "--", "criu-docker", "runtime", "install")
	l.must(t, "restart", "dockerd")
	if failed := l.doctor(t); len(failed) > 0 {
		t.Fatalf("after the installation the doctor still misses %q", failed)
	}
	l.must(t, "exec", "--", "criu-docker", "build", "tiny:lab", "--ready", "http://:80/")
	l.must(t, "exec", "--", "criu-docker", "run", "tiny:lab", "--policy", "always", "--name", "web", "-p", "8080:80")
	if page := l.must(t, "exec", "--", "curl", "-sf", "http://127.0.0.1:8080/"); !strings.Contains(page, "It works") {
		t.Errorf("the clone answers %q", page)
	}

	l.must(t, "exec", "--", "docker", "rm", "-f", "web")
	l.must(t, "exec", "--", "criu-docker", "runtime", "uninstall")
	l.must(t, "restart", "dockerd")
	if failed := l.doctor(t); !slices.Equal(failed, unfit) {
		t.Errorf("after the removal the doctor misses %q, want %q", failed, unfit)
	}
	l.must(t, "exec", "--", "sh", "-c", "! ls /etc/docker/daemon.json && ! ls /usr/local/bin/criu-docker-*")
}

// doctor returns the names of the checks that fail.
func (l *testLab) doctor(t *testing.T) []string {
	t.Helper()
	out, err := l.command("exec", "--", "criu-docker", "doctor", "--json").Output() // its exit code says it once more
	var failed []string
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for decoder.More() {
		var check struct{ Name, Status, Remedy string }
		if err := decoder.Decode(&check); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if check.Status != "fail" {
			continue
		}
		failed = append(failed, check.Name)
		if check.Remedy == "" {
			t.Errorf("for %s the doctor knows no remedy", check.Name)
		}
	}
	if (err == nil) != (len(failed) == 0) {
		t.Errorf("the doctor ends with %v, and fails %q", err, failed)
	}
	return failed
}
