package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/nomad-driver/foreign"
	"github.com/criu-docker/criu-docker/shared/engine"
)

// The network of a group outlives a plugin that is killed, and Nomad asks for its removal but once.
func TestNetworkOfAnAllocationThatIsGone(t *testing.T) {
	b := newTestbed(t, `infra_image = "pause:lab"`)
	cfg := b.task(sleeping)
	spec, created, err := b.driver.CreateNetwork(cfg.AllocID, &drivers.NetworkCreateRequest{Hostname: "web"})
	require.NoError(t, err)
	require.True(t, created)
	network := spec.Labels[sandboxLabel]
	t.Cleanup(func() { require.NoError(t, b.engine.Remove(context.Background(), network)) })
	cfg.NetworkIsolation = spec
	b.start(cfg)
	notes := notesOf(b.engine)
	dir, err := notes.network(network)
	require.NoError(t, err)
	require.Equal(t, cfg.AllocDir, dir)
	b.restart()

	s := b.driver.config()
	s.creationGrace = 0
	b.sweepDangling(s)
	_, err = b.engine.Client.ContainerInspect(t.Context(), network)
	require.NoError(t, err, "the allocation is there")

	require.NoError(t, os.Rename(cfg.AllocDir, cfg.AllocDir+"-gone"))
	t.Cleanup(func() { _ = os.Rename(cfg.AllocDir+"-gone", cfg.AllocDir) })
	b.sweepDangling(s)
	_, err = b.engine.Client.ContainerInspect(t.Context(), network)
	require.True(t, engine.IsNotFound(err), "%v", err)
	dir, err = notes.network(network)
	require.NoError(t, err)
	require.Empty(t, dir)
}

// How far a task's output got is nothing that the task may change.
func TestLogPositionIsOurs(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	id := b.containers(cfg)[0].ID
	file, err := notesOf(b.engine).file(logNotes, id)
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := os.Lstat(file); return err == nil }, patience, 50*time.Millisecond)
	require.NoFileExists(t, filepath.Join(cfg.TaskDir().Dir, ".criu-docker-logs"))

	require.NoError(t, b.engine.Remove(t.Context(), id)) // behind our back
	require.False(t, b.wait(cfg.ID).Successful())
	require.NoError(t, sweepNotes(t.Context(), b.engine))
	require.NoFileExists(t, file)
}

// A task may have its own directory as a volume, and put something else where the driver reads and writes.
func TestTaskThatReplacesItsDirectories(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.failing(sleeping)
	outside := t.TempDir()
	require.NoError(t, os.RemoveAll(cfg.TaskDir().LocalDir))
	require.NoError(t, os.Symlink(outside, cfg.TaskDir().LocalDir))
	_, _, err := b.StartTask(cfg)
	require.ErrorContains(t, err, "write the allocation's variables: openat2 "+cfg.TaskDir().LocalDir+": too many levels of symbolic links")
	require.NoFileExists(t, filepath.Join(outside, envFileName))

	cfg = b.failing("image = \"tiny:lab\"\nload = \"pipe\"")
	require.NoError(t, unix.Mkfifo(filepath.Join(cfg.TaskDir().LocalDir, "pipe"), 0o600))
	_, err = loadImage(t.Context(), b.engine, cfg, &taskConfig{Load: "pipe"})
	require.ErrorIs(t, err, foreign.ErrKind)
}

// The engine may be late with the end of an exec, whose pid is another process's by then.
func TestOnlyMembersOfTheContainerAreKilled(t *testing.T) {
	ended := func(name string, end func(pid int, group string)) syscall.Signal {
		other := exec.Command("sleep", "3600")
		require.NoError(t, other.Start())
		groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", other.Process.Pid))
		require.NoError(t, err)
		end(other.Process.Pid, strings.SplitN(strings.TrimSpace(string(groups)), ":", 3)[2])
		require.NoError(t, other.Process.Signal(syscall.SIGTERM), name)
		require.Error(t, other.Wait())
		return other.ProcessState.Sys().(syscall.WaitStatus).Signal()
	}
	require.Equal(t, syscall.SIGTERM, ended("another's", func(pid int, _ string) {
		require.NoError(t, killMember(pid, strings.Repeat("0", 64)))
	}))
	require.Equal(t, syscall.SIGKILL, ended("a member", func(pid int, group string) {
		require.NoError(t, killMember(pid, group))
	}))
	gone := exec.Command("true")
	require.NoError(t, gone.Run())
	require.NoError(t, killMember(gone.Process.Pid, "/"))
}
