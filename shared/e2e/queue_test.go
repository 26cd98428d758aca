package e2e

import (
	"os"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/internal/turn"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// Restores wait for their turn, those that the engine begins too.
func TestRestoresQueue(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, signalled), counted)
	free, queued := l.occupy()
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

	free, queued = l.occupy()
	restarted := make(chan error, 1)
	go func() { restarted <- l.eng.Client.ContainerRestart(l.ctx, r.ContainerID, container.StopOptions{}) }()
	queued()
	require.Empty(t, restarted)
	free()
	require.NoError(t, <-restarted)
	l.works(r)
}

// occupy takes all places among the restores of this machine. queued waits until somebody waits behind that.
func (l *lab) occupy() (free, queued func()) {
	l.Helper()
	var held []*turn.Turn
	for range ociruntime.Restores() {
		place, err := runDir.AwaitTurn(l.ctx, ociruntime.RestoreQueue, ociruntime.Restores())
		require.NoError(l, err)
		held = append(held, place)
	}
	before, err := os.ReadFile(runDir.QueueFile(ociruntime.RestoreQueue))
	require.NoError(l, err)
	free = func() {
		for _, place := range held {
			place.End()
		}
	}
	queued = func() {
		l.eventually(func() bool {
			now, err := os.ReadFile(runDir.QueueFile(ociruntime.RestoreQueue))
			return err == nil && string(now) != string(before)
		}, "it draws a ticket")
	}
	return free, queued
}
