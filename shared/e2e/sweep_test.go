package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

func TestSweepTakesWhatHasNoContainer(t *testing.T) {
	l := newLab(t)
	const run = ociruntime.RunDir(ociruntime.DefaultRunDir)
	built := l.build(l.spec(tiny, ""), tinyReady)
	alive := l.run(l.spec(tiny, ""), restore.PolicyAlways)
	removed := l.run(l.spec(tiny, ""), restore.PolicyAlways)
	require.NoError(t, l.eng.Remove(l.ctx, removed.ContainerID)) // as by docker rm -f

	// A process that was killed before it wrote the request leaves the clone's directory only.
	entry, err := l.cache.Get(l.ctx, l.store, built.Manifest)
	require.NoError(t, err)
	const unborn = "e2e-unborn"
	_, err = l.cache.Clone(entry, unborn, "")
	entry.Release()
	require.NoError(t, err)

	another, err := cache.Open(l.dir+"/another", 0)
	require.NoError(t, err)
	require.NoError(t, restore.Sweep(l.ctx, l.eng, another))
	_, err = run.ReadRequest(removed.ContainerID)
	require.NoError(t, err, "it belongs to the other cache")

	require.NoError(t, restore.Sweep(l.ctx, l.eng, l.cache))
	l.nothingIsLeftOf([]string{removed.ContainerID, unborn})
	clones, err := l.cache.Clones()
	require.NoError(t, err)
	require.Equal(t, []string{alive.ContainerID}, clones)
	require.Contains(t, l.sh(alive.ContainerID, "wget -qO- http://127.0.0.1/"), "It works")
}

func TestCallerThatGivesUpLeavesNothing(t *testing.T) {
	l := newLab(t)
	random := randomPoints(t)
	l.build(l.spec(tiny, signalled), counted)
	begun := time.Now()
	l.removeContainer(l.run(l.spec(tiny, signalled), restore.PolicyAlways))
	whole := time.Since(begun)
	giveUp := errors.New("changed my mind")
	for range 10 {
		ctx, cancel := context.WithTimeoutCause(l.ctx, time.Duration(random.Int64N(int64(whole))), giveUp)
		r, err := restore.Run(ctx, l.eng, restore.Options{Spec: l.spec(tiny, signalled), Policy: restore.PolicyIfPresent, Store: l.store, Cache: l.cache})
		cancel()
		if err == nil {
			l.removeContainer(r)
		} else {
			require.ErrorContains(t, err, giveUp.Error())
		}
		l.nothingIsLeft()
	}
}
