package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestUpTwiceAndDownLeavesNothing(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	status := l.must(t, "status", "--json")
	if out := l.must(t, upArgs()...); out != "" {
		t.Errorf("a second up has something to do: %s", out)
	}
	if again := l.must(t, "status", "--json"); again != status {
		t.Errorf("a second up changes what runs, from %s to %s", status, again)
	}
	l.must(t, "exec", "--", "docker", "run", "-d", "--stop-signal", "KILL", "--name", "web", "tiny:lab")
	running := l.namespaces(t)
	for _, kind := range []string{"process", "cgroup", "file"} {
		if seen := strings.Join(l.leftovers(t, running), "\n"); !strings.Contains(seen, kind+" ") {
			t.Errorf("of a running lab this test sees no %s, only:\n%s", kind, seen)
		}
	}
	l.must(t, "down", "--purge")
	if left := l.leftovers(t, running); len(left) > 0 {
		t.Errorf("down leaves behind:\n%s", strings.Join(left, "\n"))
	}
	l.must(t, "down")
}

func TestUpAfterTheNodeWasKilled(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	l.must(t, "exec", "--", "docker", "run", "-d", "--stop-signal", "KILL", "--name", "web", "tiny:lab")
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
			if out, err := l.run(upArgs()...); err != nil {
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

// The kernel takes its time with the network of a node that has ended, more on a busy machine.
func TestNodeIsConnectedWhileItsLastNetworkIsStillThere(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	node := l.node("node1")
	last, err := os.Open(filepath.Join("/proc", strconv.Itoa(node.initPID()), "ns/net"))
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if err := node.stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.up(t)
}
