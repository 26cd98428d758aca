package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests bring up labs of their own beside one that may be running, so they need what a lab needs: root on the
// host. They share the cache of the default lab, so only the first run on a machine has something to build.

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
	dir, err := os.MkdirTemp("/var/lib", "criu-docker-lab-test-")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "lab")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
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

type testLab struct {
	Lab
	binary string
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

// up brings up a lab without Nomad, which no test here needs.
func (l *testLab) up(t *testing.T, args ...string) {
	t.Helper()
	l.must(t, append([]string{"up", "--nomad=false", "--images", "tiny"}, args...)...)
}

func TestUpTwiceAndDownLeavesNothing(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	pid := l.node("node1").initPID()
	start := time.Now()
	l.up(t)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("a second up takes %s", took)
	}
	if again := l.node("node1").initPID(); again != pid {
		t.Errorf("a second up replaces the node: init was %d, is %d", pid, again)
	}
	l.must(t, "exec", "--", "docker", "run", "-d", "--name", "web", "tiny:lab")
	if len(l.leftovers(t)) == 0 {
		t.Error("a running lab leaves no trace that this test could see")
	}
	l.must(t, "down", "--purge")
	if left := l.leftovers(t); len(left) > 0 {
		t.Errorf("down leaves behind:\n%s", strings.Join(left, "\n"))
	}
	l.must(t, "down")
}

// leftovers lists what of the lab is in the kernel: processes, mounts, cgroups, and links in the host's namespace.
func (l *testLab) leftovers(t *testing.T) []string {
	t.Helper()
	var left []string
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if b, err := os.ReadFile(c); err == nil && strings.Contains(string(b), l.Dir) {
			left = append(left, "process "+c+": "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, l.Dir) {
			left = append(left, "mount "+line)
		}
	}
	for _, root := range cgroupRoots() {
		if _, err := os.Stat(filepath.Join(root, l.cgroup())); err == nil {
			left = append(left, "cgroup "+filepath.Join(root, l.cgroup()))
		}
	}
	if _, err := os.Stat("/sys/class/net/" + bridgeName); err == nil {
		left = append(left, "link "+bridgeName)
	}
	return left
}

func TestUpAfterTheNodeWasKilled(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	l.must(t, "exec", "--", "docker", "run", "-d", "--name", "web", "tiny:lab")
	for name, pid := range map[string]int{"init": l.node("node1").initPID(), "switch": l.switchPID()} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %s: %v", name, err)
		}
	}
	waitUntil(t, "the node's init is gone", func() bool { return l.node("node1").initPID() == 0 })
	if out, err := l.run("exec", "--", "true"); err == nil || !strings.Contains(out, "lab up") {
		t.Errorf("exec in a dead node doesn't tell what to do: %v %s", err, out)
	}
	l.up(t)
	if out := l.must(t, "exec", "--", "docker", "ps", "-a", "--format", "{{.Names}} {{.State}}"); out != "web exited\n" {
		t.Errorf("after the node was killed Docker knows %q, want web exited", out)
	}
	l.must(t, "exec", "--", "docker", "start", "web")
	l.must(t, "exec", "--", "curl", "-sf", "http://"+gcsAddress+"/storage/v1/b/"+gcsBucket)
}

func TestServiceThatDiesIsStartedAgain(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	l.must(t, "exec", "--", "pkill", "-KILL", "-x", "dockerd")
	waitUntil(t, "dockerd answers again", func() bool {
		_, err := l.run("exec", "--", "docker", "info")
		return err == nil
	})
}

func TestTwoUpsAtOnce(t *testing.T) {
	l := newTestLab(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if out, err := l.run("up", "--nomad=false", "--images", "tiny"); err != nil {
				t.Errorf("up: %v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	b, err := os.ReadFile(filepath.Join(l.Dir, "nodes/node1/log/init.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "node is set up"); n != 1 {
		t.Errorf("two calls of up started the node %d times", n)
	}
}

func TestNodesReachOneAnotherAndShareTheBucket(t *testing.T) {
	l := newTestLab(t)
	l.up(t, "--nodes", "2")
	l.must(t, "exec", "--node", "node2", "--", "ping", "-c1", "-W2", "node1")
	l.must(t, "exec", "--node", "node2", "--", "sh", "-c", `curl -sf "$STORAGE_EMULATOR_HOST/storage/v1/b/snapshots"`)
	id := func(node string) string {
		return l.must(t, "exec", "--node", node, "--", "docker", "image", "inspect", "-f", "{{.Id}}", "tiny:lab")
	}
	if one, two := id("node1"), id("node2"); one != two {
		t.Errorf("tiny:lab is %s on node1 and %s on node2: a snapshot of one would not fit the other", one, two)
	}
}

func TestExec(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	t.Run("exit code", func(t *testing.T) {
		err := l.command("exec", "--", "sh", "-c", "exit 7").Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Errorf("%v, want exit code 7", err)
		}
	})
	t.Run("streams", func(t *testing.T) {
		cmd := l.command("exec", "--", "sh", "-c", "cat; echo err >&2")
		cmd.Stdin = strings.NewReader("in\n")
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil || stdout.String() != "in\n" || stderr.String() != "err\n" {
			t.Errorf("%v, stdout %q, stderr %q", err, stdout.String(), stderr.String())
		}
	})
	t.Run("directory and host name", func(t *testing.T) {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if out := l.must(t, "exec", "--", "sh", "-c", "pwd; hostname"); out != "/host"+dir+"\nnode1\n" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("signal", func(t *testing.T) {
		cmd := l.command("exec", "--", "sh", "-c", "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
		out := &syncBuffer{}
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the command runs", func() bool { return strings.Contains(out.String(), "ready") })
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "got it") {
			t.Errorf("%v, output %q", err, out.String())
		}
	})
	t.Run("killed with all it started", func(t *testing.T) {
		marker := fmt.Sprintf("86%07d", os.Getpid())
		cmd := l.command("exec", "--", "sh", "-c", "setsid sleep "+marker+" & sleep "+marker)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running := func() string {
			out, _ := l.run("exec", "--", "pgrep", "-x", "-f", "sleep "+marker)
			return out
		}
		waitUntil(t, "both commands run", func() bool { return strings.Count(running(), "\n") == 2 })
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		waitUntil(t, "both commands are gone", func() bool { return running() == "" })
	})
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

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("in 30 s it doesn't come true that %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
