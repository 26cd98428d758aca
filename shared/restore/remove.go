package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// Remove ends and removes a container and everything that was made for it (request, clone directory). c may be nil if
// the container was booted cold. A container that is gone already is no error.
func Remove(ctx context.Context, eng *engine.Engine, c *cache.Cache, id string) error {
	if err := eng.Remove(ctx, id); err != nil {
		return err // what it uses stays until it is gone
	}
	return forget(c, id)
}

// Sweep removes what belongs to containers that no longer exist: after a crash, or after `docker rm` behind our back.
func Sweep(ctx context.Context, eng *engine.Engine, c *cache.Cache) error {
	ids, err := runDir.Requests()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, id := range ids {
		req, err := runDir.ReadRequest(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // forgotten meanwhile
		}
		if err != nil || req.Kind != ociruntime.KindClone || req.Engine != eng.Client.DaemonHost() {
			errs = append(errs, err)
			continue // donors are their builds' to remove, and other engines' containers theirs
		}
		if _, err := eng.Client.ContainerInspect(ctx, id); engine.IsNotFound(err) {
			err = forget(c, id)
			errs = append(errs, err)
		} else if err != nil {
			return fmt.Errorf("sweep: %w", err)
		}
	}
	return errors.Join(errs...)
}

func forget(c *cache.Cache, id string) error {
	var errs []error
	if c != nil {
		errs = append(errs, c.RemoveClone(id))
	}
	return errors.Join(append(errs, runDir.Forget(id))...)
}
