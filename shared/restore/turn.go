package restore

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/criu-docker/criu-docker/shared/internal/turn"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// place is a start's place among the restores of this machine, together with the time that the start may take: that runs
// while it has its turn, and stands still while it waits for that.
type place struct {
	start  *start
	turn   *turn.Turn
	timer  *time.Timer
	left   time.Duration // while the time stands still
	until  time.Time     // while it runs
	cancel context.CancelCauseFunc
}

// takePlace returns when it is the start's turn. The context ends when the start has taken too long.
func (s *start) takePlace(ctx context.Context) (context.Context, *place, error) {
	limit := s.timeout()
	ctx, cancel := context.WithCancelCause(ctx)
	p := &place{start: s, left: limit, cancel: cancel}
	p.timer = time.AfterFunc(limit, func() { cancel(fmt.Errorf("the snapshot was not restored within %s", limit)) })
	p.timer.Stop()
	if err := p.wait(ctx); err != nil {
		p.end()
		return ctx, nil, err
	}
	return ctx, p, nil
}

// wait waits for the start's turn.
func (p *place) wait(ctx context.Context) error {
	end := p.start.begin("queue")
	t, err := cmp.Or(p.start.queues, runDir).AwaitTurn(ctx, ociruntime.RestoreQueue, ociruntime.Restores())
	if err != nil {
		return err
	}
	if t.Waited() > worthTelling {
		end(fmt.Sprintf("waited %.1f s for other starts", t.Waited().Seconds()))
	}
	p.turn = t
	p.until = time.Now().Add(p.left)
	p.timer.Reset(p.left)
	return nil
}

// worthTelling is the least time that a start can have waited for others.
const worthTelling = 5 * time.Millisecond

// leave gives the place to others while the start waits for another machine. Its time goes on.
func (p *place) leave() {
	p.turn.End()
	p.turn = nil
}

// comeBack waits for the start's turn again.
func (p *place) comeBack(ctx context.Context) error {
	p.timer.Stop()
	p.left = max(time.Until(p.until), time.Millisecond)
	return p.wait(ctx)
}

// remaining is the time that the start has left.
func (p *place) remaining() time.Duration { return time.Until(p.until) }

func (p *place) end() {
	p.timer.Stop()
	p.turn.End()
	p.cancel(nil)
}
