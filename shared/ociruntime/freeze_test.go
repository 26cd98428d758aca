package ociruntime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestWatchFreeze(t *testing.T) {
	const never = time.Hour
	dir := t.TempDir()
	script := func(body string) *exec.Cmd { return exec.Command("sh", "-c", body, "sh", dir) }

	require.NoError(t, watchFreeze(script("exit 0"), never, dir))
	err := watchFreeze(script("exit 3"), never, dir)
	require.EqualError(t, err, "exit status 3")
	require.NotErrorIs(t, err, errStalled)
	require.Error(t, watchFreeze(exec.Command("/nowhere/runc"), never, dir))

	// Stands still: what it has started goes as well. A shell begins within this time on a busy machine too.
	const stall = time.Second
	require.ErrorIs(t, watchFreeze(script(`sleep 1000 & echo $! > "$1/child"; wait`), stall, dir), errStalled)
	b, err := os.ReadFile(filepath.Join(dir, "child"))
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(string(b)))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return ended(child) }, time.Minute, time.Millisecond)
}

// ended reports whether a process is gone or dead.
func ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestStoppedOf(t *testing.T) {
	sleeper := exec.Command("sleep", "1000")
	require.NoError(t, sleeper.Start())
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	pids := []int{1 << 30, os.Getpid(), sleeper.Process.Pid}
	require.Empty(t, stoppedOf(pids))
	require.NoError(t, sleeper.Process.Signal(unix.SIGSTOP))
	want := "process " + strconv.Itoa(sleeper.Process.Pid) + " (sleep)"
	require.Eventually(t, func() bool { return stoppedOf(pids) == want }, time.Minute, time.Millisecond)
}

// What runc 1.3.6 said when CRIU was killed.
func TestCRIUKilled(t *testing.T) {
	said := "CRIU version check failed: read criu-xprt-cln: connection reset by peer\ncriu swrk failed: signal: killed"
	require.ErrorContains(t, criuKilled(said), "CRIU was ended by a signal (killed)")
	require.ErrorContains(t, criuKilled(`level=error msg="x\ncriu swrk failed: signal: segmentation fault (core dumped)"`), "(segmentation fault (core dumped))")
	require.NoError(t, criuKilled("CRIU version check failed: exec: criu: not found"))
}

// TestWaitsForExec: what a thread that has started a process by vfork shows, and others don't.
func TestWaitsForExec(t *testing.T) {
	for call, want := range map[string]bool{
		"58 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f1c\n":       true,  // vfork
		"56 0x4011 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f1c\n":    true,  // clone with CLONE_VFORK
		"56 0x1200011 0x0 0x0 0x0 0x0 0x0 0x7ffc 0x7f1c\n": false, // fork
		"435 0x7f95 0x58 0x0 0x0 0x0 0x0 0x7ffc 0x7f1c\n":  true,  // clone3
		"202 0x7f95 0x80 0x0 0x0 0x0 0x0 0x7ffc 0x7f1c\n":  false, // futex
		"-1 0x7ffc 0x7f1c\n":                               false, // no system call
		"running\n":                                        false,
		"":                                                 false,
	} {
		require.Equal(t, want, waitsForExec(call), call)
	}
}
