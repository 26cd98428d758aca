package e2e

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestHealthCheckIsTheClones: a check that runs while the donor is frozen would be frozen with it, or fail the freeze.
func TestHealthCheckIsTheClones(t *testing.T) {
	l := newLab(t)
	spec := l.spec(tiny, "")
	spec.Config.Healthcheck = &container.HealthConfig{
		Test: []string{"CMD", "/bin/busybox", "sleep", "0.1"}, Interval: time.Millisecond, Timeout: time.Minute,
	}
	built := l.build(spec, tinyReady)
	require.Len(t, built.Config.Processes, 1)
	require.Empty(t, built.Config.Processes[0].Children)
	r := l.run(spec, restore.PolicyAlways)
	l.eventually(func() bool { return l.state(r.ContainerID).Health.Status == container.Healthy }, "the clone is checked")
}
