package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

// bootTimeout bounds a cold boot, beside the creation of its container.
const bootTimeout = 2 * time.Minute

func (s *start) cold(ctx context.Context, reason string) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("the engine did not start it within %s", bootTimeout))
	defer cancel()
	end := s.begin("cold boot")
	done := s.opts.Timeline.Begin(timeline.Engine, createCall)
	spec, runtime, err := s.identified(ctx)
	if err != nil {
		return nil, err
	}
	id, err := s.eng.Create(ctx, spec, runtime)
	if err != nil {
		return nil, err
	}
	done("")
	done = s.opts.Timeline.Begin(timeline.Engine, startCall)
	if err := s.eng.Start(ctx, id); err != nil {
		return nil, errors.Join(err, s.undo(ctx, id))
	}
	done("")
	end(reason)
	return &Result{ContainerID: id, Start: Cold, Reason: reason, Steps: s.steps}, nil
}

// identified is the spec and the runtime of a container that boots cold and gets an identity all the same. Where the engine lacks our
// runtime, or would not take runc by itself, the container is as its user asked for it, and gets none.
func (s *start) identified(ctx context.Context) (engine.Spec, string, error) {
	if s.opts.Spec.Host != nil && s.opts.Spec.Host.Runtime != "" {
		return s.opts.Spec, "", nil
	}
	wraps, err := s.eng.WrapsDefault(ctx)
	if err != nil || !wraps {
		return s.opts.Spec, "", err
	}
	return annotated(s.opts.Spec, ociruntime.ColdAnnotations()), engine.RuntimeName, nil
}

// marked is the container's spec with what tells, for as long as the container lasts, that it is a clone.
func (s *start) marked() engine.Spec {
	return annotated(s.opts.Spec, ociruntime.Annotations(s.eng.Client.DaemonHost(), s.opts.Policy == PolicyIfPresent))
}

// annotated returns a spec with further annotations.
func annotated(spec engine.Spec, more map[string]string) engine.Spec {
	host := container.HostConfig{}
	if spec.Host != nil {
		host = *spec.Host
	}
	annotations := maps.Clone(host.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, more)
	host.Annotations = annotations
	spec.Host = &host
	return spec
}
