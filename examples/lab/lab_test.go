package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// The lab names the agent it caches; the nested module decides what is built.
func TestNomadVersionIsThePinnedOne(t *testing.T) {
	pinned := map[string]string{"nomad": nomadVersion}
	for series, version := range nomadVersions {
		pinned["nomad-"+series] = version
	}
	for dir, version := range pinned {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`github\.com/hashicorp/nomad v(\S+)`).FindSubmatch(mod)
		if m == nil || string(m[1]) != version {
			t.Errorf("%s/go.mod pins %q, the lab takes it for %s", dir, m, version)
		}
	}
}

func TestRecipeKeyDependsOnContentsNotOnMirror(t *testing.T) {
	r := nodeRecipe()
	key := r.key()
	r.Mirror = "http://elsewhere.example/debian"
	if r.key() != key {
		t.Error("another mirror makes another key, so every machine with its own mirror would build again")
	}
	r.Packages = append(slices.Clone(r.Packages), "strace")
	if r.key() == key {
		t.Error("another package list makes the same key, so a changed recipe would not be built")
	}
}

func TestIdentifyNamesThisProcessOnly(t *testing.T) {
	id, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "id.json")
	if err := writeJSON(file, id); err != nil {
		t.Fatal(err)
	}
	if got := living(file).PID; got != os.Getpid() {
		t.Errorf("living pid is %d, want %d", got, os.Getpid())
	}
	id.Start = "1" // the pid was used by a process before this one
	if err := writeJSON(file, id); err != nil {
		t.Fatal(err)
	}
	if got := living(file).PID; got != 0 {
		t.Errorf("a reused pid counts as living: %d", got)
	}
}

// TestProcessOfAReusedPidIsNotEnded: the process that has the pid now is another.
func TestProcessOfAReusedPidIsNotEnded(t *testing.T) {
	other := exec.Command("sleep", "3600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = other.Process.Kill(), other.Wait() }()
	id, err := identify(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	former := id
	former.Start = "1"
	if err := endProcess(t.Context(), former, unix.SIGTERM, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if now, err := identify(id.PID); err != nil || now != id {
		t.Fatalf("it is %v, %v; want %v", now, err, id)
	}
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	if err := endProcess(t.Context(), id, unix.SIGTERM, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("it was not ended by a signal")
	}
}

func TestExecFindsTheHostsToolsWhereverTheyAre(t *testing.T) {
	opt, links := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(opt, "terraform"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(opt, "terraform"), filepath.Join(links, "terraform")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", links)
	if got, want := execPath(), nodePath+":"+hostRoot+opt; got != want {
		t.Errorf("PATH is %s, want %s", got, want)
	}
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no tools on this host
	env := execEnv([]string{"PATH=/opt/x", "DOCKER_HOST=tcp://10.0.0.1", "TF_ACC=1", "HOME=/home/somebody"}, "node2")
	for _, want := range []string{"PATH=" + nodePath, "HOME=/root", "TF_ACC=1", "CRIU_DOCKER_LAB=node2"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	for _, kv := range env {
		if kv == "DOCKER_HOST=tcp://10.0.0.1" || kv == "PATH=/opt/x" {
			t.Errorf("%s of the host reaches the node", kv)
		}
	}
}

func TestTestFlagsAreMappedToTheHostsFiles(t *testing.T) {
	host := t.TempDir()
	if err := os.MkdirAll(filepath.Join(host, "tmp/go-build1"), 0o755); err != nil {
		t.Fatal(err)
	}
	got := mapTestFlags(host, []string{"-test.v=true", "-test.testlogfile=/tmp/go-build1/log", "-test.outputdir=/nowhere/x", "-o=/tmp/go-build1/log"})
	want := []string{"-test.v=true", "-test.testlogfile=" + host + "/tmp/go-build1/log", "-test.outputdir=/nowhere/x", "-o=/tmp/go-build1/log"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestLabDirectoryLeavesRoomForSockets(t *testing.T) {
	lab := &Lab{Dir: "/var/lib/" + string(make([]byte, 80))}
	if err := lab.complete(); err == nil {
		t.Error("a directory is accepted in which sockets can't be made")
	}
}

func TestServiceThatEndsIsToBlameRatherThanOneThatWaits(t *testing.T) {
	dockerd, gcs := serviceState{Name: "dockerd", Ready: true}, serviceState{Name: "gcs", Ready: true}
	waits, ends := serviceState{Name: "nomad"}, serviceState{Name: "nomad-server", LastExit: "exit status 1"}
	for _, c := range []struct {
		services []serviceState
		want     string
	}{
		{[]serviceState{dockerd, waits, ends}, "nomad-server"},
		{[]serviceState{ends, waits}, "nomad-server"},
		{[]serviceState{dockerd, waits}, "nomad"},
	} {
		if got := unready(c.services); got == nil || got.Name != c.want {
			t.Errorf("%v: got %v, want %s", c.services, got, c.want)
		}
	}
	if got := unready([]serviceState{dockerd, gcs}); got != nil {
		t.Errorf("all are ready, and yet %s is to blame", got.Name)
	}
}

// TestLabInADirectoryOfOthers: neither up nor down --purge touches what is not the lab's.
func TestLabInADirectoryOfOthers(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"nodes/node1", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l := &Lab{Dir: dir, Cache: filepath.Join(dir, "cache")}
	if err := l.down(t.Context(), true); !errors.Is(err, owned.ErrForeign) || !strings.Contains(err.Error(), "LAB_DIR: lab directory "+dir) {
		t.Errorf("down --purge: %v", err)
	}
	if err := l.up(t.Context(), upOptions{nodes: 1}); !errors.Is(err, owned.ErrForeign) {
		t.Errorf("up: %v", err)
	}
	if left, err := filepath.Glob(dir + "/*"); err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "nodes", "node1")); err != nil {
		t.Error(err)
	}
}

// TestLabOfAnEarlierVersion has no marker; make has put the lab's program there before the lab is first called.
func TestLabOfAnEarlierVersion(t *testing.T) {
	for _, names := range [][]string{{"bin"}, {"bin", "cache", "nodes"}} {
		l := &Lab{Dir: t.TempDir()}
		for _, sub := range names {
			if err := os.Mkdir(filepath.Join(l.Dir, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		unlock, err := l.lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	}
}
