package build

import (
	"context"
	"fmt"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// describeHost says what froze the donor.
func describeHost(ctx context.Context, eng *engine.Engine) (snapshot.Host, error) {
	h, err := criu.HostInfo(ctx)
	if err != nil {
		return snapshot.Host{}, fmt.Errorf("this host: %w", err)
	}
	info, err := eng.Client.Info(ctx)
	if err != nil {
		return snapshot.Host{}, fmt.Errorf("the engine: %w", err)
	}
	return snapshot.Host{Host: h, Engine: info.ServerVersion, Runc: info.RuncCommit.ID}, nil
}
