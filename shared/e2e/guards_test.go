package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestGuardRegions: what a guard region has discarded must not come back from the snapshot. The page server gets no word of it.
func TestGuardRegions(t *testing.T) {
	l := newLab(t)
	guard := func(memory restore.Memory, unconfined bool) (said, why string) {
		spec := l.ballast()
		if unconfined {
			spec.Host.SecurityOpt = []string{"seccomp=unconfined"}
		}
		r, err := restore.Run(l.ctx, l.eng, restore.Options{
			Spec: spec, Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, Memory: memory,
			OnEvent: func(e restore.Event) {
				if e.Step == "memory" {
					why = e.Message
				}
			},
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, restore.Remove(l.ctx, l.eng, l.cache, r.ContainerID)) }()
		url := "http://" + l.ip(r.ContainerID)
		said = l.mustGet(url + "/guard")
		if said == "invalid argument\n" { // as kernels say that have none
			require.Contains(t, l.mustGet(url+"/all"), "what was filled in")
		}
		return said, why
	}
	l.build(l.ballast(), ballastReady)
	for _, memory := range []restore.Memory{restore.MemoryEager, restore.MemoryLazy, restore.MemoryAuto} {
		said, why := guard(memory, false)
		require.Equal(t, "invalid argument\n", said, memory)
		require.Empty(t, why)
	}

	spec := l.ballast()
	spec.Host.SecurityOpt = []string{"seccomp=unconfined"}
	built := l.build(spec, ballastReady)
	require.True(t, built.Config.GuardRegions)
	switch said, why := guard(restore.MemoryAuto, true); said {
	case "invalid argument\n": // a kernel without
		require.Empty(t, why)
	default:
		require.Equal(t, "discarded\n", said)
		require.Contains(t, why, "eager: the container has no seccomp filter")
	}
}
