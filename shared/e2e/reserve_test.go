package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestReservedAddressSpace: databases, browsers and runtimes reserve more of it than there is memory, and use little.
func TestReservedAddressSpace(t *testing.T) {
	l := newLab(t)
	spec := l.ballast()
	spec.Config.Cmd = []string{"64", "1024"}
	built := l.build(spec, ballastReady)
	require.Empty(t, built.Config.NoLazy, "a host with vm.overcommit_memory = 1 can")
	require.Equal(t, int64(1<<40), built.Config.LargestMapping)
	run := func(memory restore.Memory, onEvent func(restore.Event)) (*restore.Result, error) {
		return restore.Run(l.ctx, l.eng, restore.Options{
			Spec: spec, Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, Memory: memory, OnEvent: onEvent,
		})
	}
	const why = "the app reserves 1024 GiB of address space in one piece"
	said := ""
	r, err := run(restore.MemoryAuto, func(e restore.Event) {
		if e.Step == "memory" {
			said = e.Message
		}
	})
	require.NoError(t, err)
	require.Contains(t, said, "eager: "+why)
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
	_, err = run(restore.MemoryLazy, nil)
	require.ErrorContains(t, err, `memory = "lazy": `+why)
	require.ErrorContains(t, err, `use "eager" or "auto"`)
}
