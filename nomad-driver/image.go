package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/nomad-driver/foreign"
	"github.com/criu-docker/criu-docker/shared/engine"
)

// errPullStalled means that the engine reported no progress for pull_activity_timeout.
var errPullStalled = errors.New("the engine reports no progress")

// ensureImage makes sure that the engine has the task's image and returns its id. Tasks that want the same image at the
// same time share one pull.
func (d *Driver) ensureImage(eng *engine.Engine, cfg *drivers.TaskConfig, tc *taskConfig) (id string, err error) {
	s := d.config()
	timeout := s.imagePullTimeout
	if tc.ImagePullTimeout != "" {
		if timeout, err = parseDuration("image_pull_timeout", tc.ImagePullTimeout); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(d.ctx, timeout)
	defer cancel()

	force := tc.ForcePull || isLatest(tc.Image)
	if !force || tc.Load != "" {
		img, err := eng.Client.ImageInspect(ctx, tc.Image)
		switch {
		case err == nil && !tc.ForcePull:
			return img.ID, nil
		case err != nil && !engine.IsNotFound(err):
			return "", structs.NewRecoverableError(fmt.Errorf("image %q: %w", tc.Image, err), true)
		}
	}
	if tc.Load != "" {
		return loadImage(ctx, eng, cfg, tc)
	}

	auth, err := registryAuthFor(tc, s)
	if err != nil {
		if !tc.AuthSoftFail {
			return "", fmt.Errorf("credentials for image %q: %w", tc.Image, err)
		}
		d.logger.Warn("no credentials for the image's registry; trying without", "task_id", cfg.ID, "image", tc.Image, "error", err)
	}
	d.emit(cfg, "Downloading image "+tc.Image, map[string]string{"image": tc.Image})
	v, err, _ := d.pulls.Do(tc.Image, func() (any, error) {
		return pull(ctx, eng, tc.Image, force, auth, s.pullActivityTimeout)
	})
	if err != nil {
		return "", structs.NewRecoverableError(err, true)
	}
	return v.(string), nil
}

// isLatest reports whether a reference has no tag, or the tag that by convention moves: such an image is pulled every time.
func isLatest(ref string) bool {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false // an image id
	}
	if _, ok := named.(reference.Digested); ok {
		return false
	}
	tagged, ok := named.(reference.Tagged)
	return !ok || tagged.Tag() == "latest"
}

// pull gives up when the engine is silent for longer than stall.
func pull(ctx context.Context, eng *engine.Engine, ref string, force bool, auth string, stall time.Duration) (id string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stall, func() { cancel(fmt.Errorf("%w for %s", errPullStalled, stall)) })
	defer watchdog.Stop()
	img, err := eng.EnsureImage(ctx, ref, engine.PullOptions{
		Force:        force,
		RegistryAuth: auth,
		OnProgress:   func(jsonmessage.JSONMessage) { watchdog.Reset(stall) },
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return "", err
	}
	return img.ID, nil
}

// loadImage loads the image from a tar archive in the task's local directory.
func loadImage(ctx context.Context, eng *engine.Engine, cfg *drivers.TaskConfig, tc *taskConfig) (id string, err error) {
	archive, err := foreign.OpenFile(cfg.TaskDir().LocalDir, tc.Load)
	if err != nil {
		return "", fmt.Errorf("load = %q: want a tar archive in the task's local directory: %w", tc.Load, err)
	}
	defer archive.Close()
	resp, err := eng.Client.ImageLoad(ctx, archive)
	if err != nil {
		return "", structs.NewRecoverableError(fmt.Errorf("load image from %q: %w", tc.Load, err), true)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", structs.NewRecoverableError(fmt.Errorf("load image from %q: %w", tc.Load, err), true)
	}
	img, err := eng.Client.ImageInspect(ctx, tc.Image)
	if err != nil {
		return "", fmt.Errorf("image %q after loading %q: %w; the engine said: %s", tc.Image, tc.Load, err, cmp.Or(string(said), "nothing"))
	}
	return img.ID, nil
}
