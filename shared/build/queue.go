package build

import (
	"context"
	"fmt"
	"time"

	"github.com/criu-docker/criu-docker/shared/internal/turn"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// worthTelling is the least time that a build can have waited for others.
const worthTelling = 100 * time.Millisecond

// awaitTurn returns when it is this build's turn.
func awaitTurn(ctx context.Context, p *progress) (*turn.Turn, error) {
	end := p.begin("queue")
	place, err := runDir.AwaitTurn(ctx, ociruntime.BuildQueue, ociruntime.Builds())
	if err != nil {
		return nil, fmt.Errorf("waiting for other builds: %w", err)
	}
	message := ""
	if place.Waited() > worthTelling {
		message = fmt.Sprintf("waited %.1f s for other builds", place.Waited().Seconds())
	}
	end(message)
	return place, nil
}
