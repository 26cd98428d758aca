package e2e

import (
	"os"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/internal/turn"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// Restores wait for their turn, those that the engine begins too.
func TestRestoresQueue(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, signalled), counted)
	free, queued := l.occupy(ociruntime.RestoreQueue, ociruntime.Restores())
	hot := make(chan *restore.Result, 1)
	go func() {
		r, err := l.tryRun(l.spec(tiny, signalled), restore.PolicyAlways)
		if err != nil {
			t.Error(err)
		}
		hot <- r
	}()
	queued()
	require.Empty(t, l.containers(), "not even its container is made")
	cold := l.run(l.spec(tiny, signalled), restore.PolicyNever)
	require.Equal(t, restore.Cold, cold.Start, "a cold boot waits for nobody")
	require.Empty(t, hot)
	free()
	r := <-hot
	require.Equal(t, "queue", r.Steps[0].Step)
	require.Contains(t, r.Steps[0].Message, "for other starts")

	free, queued = l.occupy(ociruntime.RestoreQueue, ociruntime.Restores())
	restarted := make(chan error, 1)
	go func() { restarted <- l.eng.Client.ContainerRestart(l.ctx, r.ContainerID, container.StopOptions{}) }()
	queued()
	require.Empty(t, restarted)
	free()
	require.NoError(t, <-restarted)
	l.works(r)
}

// Builds wait for their turn, and have made nothing until then.
func TestBuildsQueue(t *testing.T) {
	l := newLab(t)
	free, queued := l.occupy(ociruntime.BuildQueue, ociruntime.Builds())
	built := make(chan error, 1)
	go func() {
		_, err := l.tryBuild(l.spec(tiny, ""), tinyReady, criu.DefaultOptions())
		built <- err
	}()
	queued()
	require.Empty(t, l.containers(), "not even its donor is made")
	require.Empty(t, built)
	free()
	require.NoError(t, <-built)
}

// occupy takes all places of a queue of this machine. queued waits until a start or build waits behind that.
func (l *lab) occupy(queue string, places int) (free, queued func()) {
	l.Helper()
	var held []*turn.Turn
	for range places {
		place, err := runDir.AwaitTurn(l.ctx, queue, places)
		require.NoError(l, err)
		held = append(held, place)
	}
	before, err := os.ReadFile(runDir.QueueFile(queue))
	require.NoError(l, err)
	free = func() {
		for _, place := range held {
			place.End()
		}
	}
	queued = func() {
		l.eventually(func() bool {
			now, err := os.ReadFile(runDir.QueueFile(queue))
			return err == nil && string(now) != string(before)
		}, "it draws a ticket")
	}
	return free, queued
}
