package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/nomad/helper/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// What an interrupted start left behind makes room for the next one of the same task, to which Nomad gives another id. A
// container of somebody else's does not.
func TestStartAfterInterruptedStart(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	left := b.containers(cfg)[0].ID
	b.restart()
	again := *cfg
	again.ID = cfg.AllocID + "/web/" + uuid.Short()
	b.start(&again)
	require.Len(t, b.containers(&again), 1)
	_, err := b.engine.Client.ContainerInspect(t.Context(), left)
	require.True(t, engine.IsNotFound(err))

	other := b.failing(sleeping)
	_, err = b.engine.Create(t.Context(), engine.Spec{
		Name:   containerName(other),
		Config: &container.Config{Image: tiny, Labels: map[string]string{labelNodeID: b.nodeID}},
	}, "")
	require.NoError(t, err)
	_, _, err = b.StartTask(other)
	require.ErrorContains(t, err, "does not belong to this task")
}

func TestDanglingContainersAreRemoved(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	kept := b.task(sleeping)
	keptHandle, _ := b.start(kept)
	b.restart()

	s := b.driver.config()
	b.sweepDangling(s)
	require.Len(t, b.containers(cfg), 1, "an agent that has handed over no task yet may have any")

	require.NoError(t, b.RecoverTask(keptHandle))
	s.creationGrace = time.Hour
	b.sweepDangling(s)
	require.Len(t, b.containers(cfg), 1, "a container that is younger than the grace period may be about to become a task's")

	s.GC.DanglingContainers.DryRun, s.creationGrace = true, 0
	b.sweepDangling(s)
	require.Len(t, b.containers(cfg), 1)

	s.GC.DanglingContainers.DryRun = false
	b.sweepDangling(s)
	require.Empty(t, b.containers(cfg))
	require.Len(t, b.containers(kept), 1)
}

// The container of an allocation that no agent has any more has no owner, whichever agent it was.
func TestContainersWithoutAllocationAreRemoved(t *testing.T) {
	b := newTestbed(t, "")
	cfg := b.task(sleeping)
	b.start(cfg)
	b.restart()
	require.NoError(t, os.Rename(cfg.AllocDir, cfg.AllocDir+"-gone"))
	t.Cleanup(func() { _ = os.Rename(cfg.AllocDir+"-gone", cfg.AllocDir) })
	s := b.driver.config()
	s.creationGrace = 0
	b.sweepDangling(s)
	require.Empty(t, b.containers(cfg))
}

// With gc { container = false } the operator keeps ended containers to look at.
func TestEndedContainersAreKept(t *testing.T) {
	b := newTestbed(t, "gc {\n container = false\n}")
	cfg := b.task("image = \"tiny:lab\"\ncommand = \"true\"\nsnapshot { policy = \"never\" }")
	b.start(cfg)
	require.Zero(t, b.wait(cfg.ID).ExitCode)
	require.NoError(t, b.DestroyTask(cfg.ID, false))
	s := b.driver.config()
	s.creationGrace = 0
	b.sweepDangling(s)
	require.Len(t, b.containers(cfg), 1)
}

func (b *testbed) sweepDangling(s settings) {
	b.t.Helper()
	b.driver.removeDangling(b.engine, s)
}

// A clone's directory and its request go with its container, even if that was removed from outside.
func TestNothingOfACloneIsLeft(t *testing.T) {
	dir := t.TempDir()
	b := newTestbed(t, "snapshot {\n store = \""+dir+"\"\n}")
	publishCounter(t, b.engine, dir)
	for _, removeFirst := range []bool{false, true} {
		cfg := b.task(counterTask("always"), httpPort(28130))
		b.start(cfg)
		id := b.containers(cfg)[0].ID
		require.DirExists(t, filepath.Join(b.cacheDir, "clones", id))
		if removeFirst {
			require.NoError(t, b.engine.Remove(t.Context(), id))
			require.False(t, b.wait(cfg.ID).Successful())
		}
		require.NoError(t, b.DestroyTask(cfg.ID, true))
		requireGone(t, b.cacheDir, id)
	}
}

// requireGone waits until nothing is left of a container: neither itself, nor its clone, its request, or a process.
func requireGone(t *testing.T, cacheDir, id string) {
	t.Helper()
	eng, err := engine.Connect(t.Context(), "")
	require.NoError(t, err)
	defer eng.Close()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := eng.Client.ContainerInspect(t.Context(), id)
		require.True(c, engine.IsNotFound(err), "container %s: %v", id, err)
		require.NoDirExists(c, filepath.Join(cacheDir, "clones", id))
		require.NoDirExists(c, filepath.Join(cacheDir, "tmp", "clone-"+id))
		for _, pattern := range []string{"/run/criu-docker/*/", ociruntime.DefaultRequestDir + "/"} {
			left, err := filepath.Glob(pattern + id + "*")
			require.NoError(c, err)
			require.Empty(c, left)
		}
		require.Empty(c, processesOf(c, id))
	}, patience, 50*time.Millisecond)
}

// processesOf lists the command lines that name a container.
func processesOf(t require.TestingT, id string) []string {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), id) { // most others end meanwhile
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
