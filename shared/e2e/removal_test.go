package e2e

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
)

// TestRemovalsAtOnce: the engine refuses a removal while another one is under way; both callers want the container gone.
func TestRemovalsAtOnce(t *testing.T) {
	l := newLab(t)
	for range 3 {
		id, err := l.eng.Create(l.ctx, l.spec(tiny, ""), engine.RuntimeName)
		require.NoError(t, err)
		require.NoError(t, l.eng.Start(l.ctx, id))
		var all sync.WaitGroup
		errs := make([]error, 8)
		gone := make([]bool, len(errs))
		for i := range errs {
			all.Go(func() {
				errs[i] = l.eng.Remove(l.ctx, id)
				_, err := l.eng.Client.ContainerInspect(l.ctx, id)
				gone[i] = engine.IsNotFound(err)
			})
		}
		all.Wait()
		for i := range errs {
			require.NoError(t, errs[i])
			require.True(t, gone[i], "it returns when the container is gone")
		}
	}
}

// TestSweepsAtOnce: every build begins with a sweep, so several find the same donor of a killed one.
func TestSweepsAtOnce(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	spec := l.spec(tiny, "")
	spec.Config.Labels["io.criu-docker.build"] = dir + "/build-gone"
	for range 3 {
		id, err := l.eng.Create(l.ctx, spec, engine.RuntimeName)
		require.NoError(t, err)
		require.NoError(t, l.eng.Start(l.ctx, id))
		var all sync.WaitGroup
		errs := make([]error, 4)
		for i := range errs {
			all.Go(func() { errs[i] = build.Sweep(l.ctx, l.eng, dir) })
		}
		all.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
	}
}

// TestBuildThatCannotCleanUp: a mount in the build's directory keeps it from being removed. The snapshot is published all the
// same, and the caller gets it, with a warning; so does the next build, whose sweep can't finish.
func TestBuildThatCannotCleanUp(t *testing.T) {
	l := newLab(t)
	options := build.Options{
		Spec: l.spec(tiny, ""), Ready: tinyReady, Checkpoint: criu.DefaultOptions(), Store: l.store, NoProfile: true, Dir: l.dir + "/build",
	}
	busy := ""
	options.OnEvent = func(e build.Event) {
		if e.Step != "publish" || !e.Done {
			return
		}
		found, err := filepath.Glob(options.Dir + "/build-*/checkpoint")
		if err == nil && len(found) == 1 {
			busy, err = found[0], unix.Mount("none", found[0], "tmpfs", 0, "")
		}
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		require.NoError(t, unix.Unmount(busy, 0))
		require.NoError(t, build.Sweep(context.Background(), l.eng, options.Dir))
		require.NoDirExists(t, filepath.Dir(busy))
	})
	result, err := build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
	require.False(t, result.Existed)
	require.Len(t, result.Warnings, 1)
	require.Contains(t, result.Warnings[0], "busy")

	options.Force = true
	again, err := build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
	require.Len(t, again.Warnings, 1)
	require.Contains(t, again.Warnings[0], "busy")
}
