package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// removeTimeout bounds the removal of a container, its end and the removals of others included.
const removeTimeout = 2 * time.Minute

// The growing pause between looks at a container whose removal is under way.
const (
	firstRemovalPause = 10 * time.Millisecond
	lastRemovalPause  = 500 * time.Millisecond
)

// Remove ends a container, removes it with its anonymous volumes, and returns when it is gone. One that is gone already is
// no error, nor is one whose removal is under way: the engine refuses a second removal of the same container, so Remove
// waits for the first, and takes over if that fails.
func (e *Engine) Remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, removeTimeout, fmt.Errorf("it was still there after %s", removeTimeout))
	defer cancel()
	for pause := firstRemovalPause; ; pause = min(2*pause, lastRemovalPause) {
		err := e.Client.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil || IsNotFound(err):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("remove container %.12s: %w", id, context.Cause(ctx))
		case !beingRemoved(err):
			return fmt.Errorf("remove container %.12s: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove container %.12s: %w", id, errors.Join(context.Cause(ctx), err))
		case <-time.After(pause):
		}
	}
}

// beingRemoved reports whether a removal was refused because there is one already.
func beingRemoved(err error) bool {
	return errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress")
}
