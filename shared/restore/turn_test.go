package restore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/internal/turn"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// A start that waits for others has all of its time when it is its turn, and says how long it has waited.
func TestTimeoutCountsFromOnesTurn(t *testing.T) {
	queues := ociruntime.RunDir(t.TempDir())
	var held []*turn.Turn
	for range ociruntime.Restores() {
		other, err := queues.AwaitTurn(t.Context(), ociruntime.RestoreQueue, ociruntime.Restores())
		require.NoError(t, err)
		held = append(held, other)
	}
	const limit = 50 * time.Millisecond
	s := &start{queues: queues, opts: Options{Timeout: limit}}
	time.AfterFunc(4*limit, func() { // longer than it may take by itself
		for _, other := range held {
			other.End()
		}
	})
	ctx, p, err := s.takePlace(t.Context())
	require.NoError(t, err, "waiting is not its fault")
	require.Len(t, s.steps, 1)
	require.Equal(t, "queue", s.steps[0].Step)
	require.Regexp(t, `^waited \d+\.\d s for other starts$`, s.steps[0].Message)

	<-ctx.Done()
	require.EqualError(t, context.Cause(ctx), "the snapshot was not restored within 50ms")
	p.end()
}

func TestPlaceIsLeftToOthersDuringADownload(t *testing.T) {
	queues := ociruntime.RunDir(t.TempDir())
	s := &start{queues: queues}
	ctx, p, err := s.takePlace(t.Context())
	require.NoError(t, err)
	p.leave()
	var held []*turn.Turn
	for range ociruntime.Restores() { // all of the places are free
		other, err := queues.AwaitTurn(t.Context(), ociruntime.RestoreQueue, ociruntime.Restores())
		require.NoError(t, err)
		held = append(held, other)
	}
	back := make(chan error, 1)
	go func() { back <- p.comeBack(ctx) }()
	require.Empty(t, back)
	for _, other := range held {
		other.End()
	}
	require.NoError(t, <-back)
	require.Positive(t, p.remaining())
	p.end()
	require.Error(t, ctx.Err())
}
