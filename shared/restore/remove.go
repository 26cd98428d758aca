package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// Remove ends and removes a container and everything that was made for it (request, clone directory). c may be nil if
// the container was booted cold. A container that is gone already is not an error.
func Remove(ctx context.Context, eng *engine.Engine, c *cache.Cache, id string) error {
	if err := eng.Remove(ctx, id); err != nil {
		return err // what it uses stays until it is gone
	}
	return forget(c, id)
}

// Sweep removes what belongs to containers that no longer exist: after a crash, or after `docker rm` behind our back. It
// leaves alone what belongs to builds, to other engines and to other caches.
func Sweep(ctx context.Context, eng *engine.Engine, c *cache.Cache) error {
	ids, err := c.Clones()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	requests, err := runDir.Requests()
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	booted, err := runDir.BootedCold(eng.Client.DaemonHost())
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	ids = slices.Concat(ids, requests, booted)
	slices.Sort(ids)
	var errs []error
	for _, id := range slices.Compact(ids) {
		req, err := runDir.ReadRequest(id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // the maker of the clone's directory was killed before the request was written
		case errors.Is(err, ociruntime.ErrUnreadable): // of no use, as if it were not there
		case err != nil:
			errs = append(errs, err)
			continue
		case req.Kind != ociruntime.KindClone, req.Engine != eng.Client.DaemonHost(),
			!strings.HasPrefix(req.CheckpointDir, c.Dir()+string(filepath.Separator)):
			continue
		}
		if _, err := eng.Client.ContainerInspect(ctx, id); engine.IsNotFound(err) {
			errs = append(errs, forget(c, id))
		} else if err != nil {
			return errors.Join(append(errs, fmt.Errorf("sweep: %w", err))...)
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
