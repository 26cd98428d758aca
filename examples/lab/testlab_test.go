package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary is the lab as well: the nodes of test labs run copies of it, with a subcommand as first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	os.Exit(m.Run())
}

// testLab is a lab of its own beside one that may be running, so it needs what a lab needs: root on the host. It
// shares the cache of the default lab, so only the first run on a machine has something to build.
type testLab struct {
	Lab
	binary string
}

func newTestLab(t *testing.T) *testLab {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("brings up a lab: not with -short")
	case os.Getenv("CRIU_DOCKER_LAB") != "":
		t.Skip("runs on the host of a lab, not in a node: go test ./examples/lab")
	case os.Geteuid() != 0:
		t.Fatal("needs root to bring up a lab: run as root, or with -short")
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/lib", "criu-docker-lab-test-")
	if err != nil {
		t.Fatal(err)
	}
	standard := defaultLab()
	if err := standard.complete(); err != nil {
		t.Fatal(err)
	}
	l := &testLab{Lab: Lab{Dir: dir, Cache: standard.Cache}, binary: binary}
	t.Cleanup(func() {
		if out, err := l.run("down", "--purge"); err != nil {
			t.Errorf("down: %v\n%s", err, out)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *testLab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(l.binary, args...)
	cmd.Env = append(os.Environ(), "LAB_DIR="+l.Dir, "LAB_CACHE="+l.Cache)
	return cmd
}

func (l *testLab) run(args ...string) (string, error) {
	out, err := l.command(args...).CombinedOutput()
	return string(out), err
}

func (l *testLab) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := l.run(args...)
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// upArgs bring up a lab without Nomad, which no test here needs.
func upArgs(further ...string) []string {
	return append([]string{"up", "--nomad=false", "--images", "tiny"}, further...)
}

func (l *testLab) up(t *testing.T, further ...string) {
	t.Helper()
	l.must(t, upArgs(further...)...)
}

// namespaceKinds are those that a node has of its own.
var namespaceKinds = []string{"mnt", "pid", "net", "uts", "ipc"}

// namespaces are those of the running lab, by what /proc calls them, such as net:[4026532281].
func (l *testLab) namespaces(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, pid := range []int{l.node("node1").initPID(), l.switchPID()} {
		for _, kind := range namespaceKinds {
			name, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind))
			if err != nil {
				t.Fatal(err)
			}
			// The switch shares most of the host's.
			if host, err := os.Readlink("/proc/self/ns/" + kind); err != nil || name != host {
				found[name] = true
			}
		}
	}
	return found
}

// leftovers lists what there is of the lab: processes, mounts, cgroups, links in the host's namespace, and files.
func (l *testLab) leftovers(t *testing.T, namespaces map[string]bool) []string {
	t.Helper()
	left := l.processes(t, namespaces)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		pinned := strings.Contains(line, " nsfs ") && namespaces[strings.Fields(line)[3]]
		if pinned || strings.Contains(line, l.Dir) {
			left = append(left, "mount "+line)
		}
	}
	for _, root := range cgroupRoots() {
		common := filepath.Join(root, filepath.Dir(l.cgroup()))
		if own := filepath.Join(root, l.cgroup()); exists(own) {
			left = append(left, "cgroup "+own)
		} else if labs, err := filepath.Glob(common + "/*/cgroup.procs"); exists(common) && err == nil && len(labs) == 0 {
			left = append(left, "cgroup "+common+", which no lab uses")
		}
	}
	for _, link := range []string{bridgeName, "node1"} {
		if exists("/sys/class/net/" + link) {
			left = append(left, "link "+link)
		}
	}
	files, err := os.ReadDir(l.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != "lab.lock" && f.Name() != ".lab" {
			left = append(left, "file "+f.Name())
		}
	}
	return left
}

// processes are those that name the lab's directory, and those in its namespaces.
func (l *testLab) processes(t *testing.T, namespaces map[string]bool) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, dir := range dirs {
		// What can't be read belongs to a process that is gone by now.
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found := strings.Contains(string(command), l.Dir)
		for _, kind := range namespaceKinds {
			name, _ := os.Readlink(filepath.Join(dir, "ns", kind))
			found = found || namespaces[name]
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		// One that has ended may wait for its parent, which is the host's init, to take notice.
		if _, err := identify(pid); found && err == nil {
			left = append(left, "process "+dir+": "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return left
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// syncBuffer is a buffer that may be read while a command writes to it.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// waitUntil is patient: these tests share the machine with those of other packages.
func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("in %s it doesn't come true that %s", patience, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
