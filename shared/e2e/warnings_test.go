package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestWarningsOfTheEngine: what the engine warns of when it creates a container reaches the user that asked for the container.
func TestWarningsOfTheEngine(t *testing.T) {
	l := newLab(t)
	spec := l.spec(tiny, "")
	disable := true
	spec.Host.OomKillDisable = &disable // without a memory limit; of no effect with cgroup v2
	result := l.build(spec, tinyReady)
	require.Len(t, result.Warnings, 1, "once, though donor and profile have a container each")
	require.Contains(t, strings.ToLower(result.Warnings[0]), "oom")

	var warnings []string
	spec.OnWarning = func(w string) { warnings = append(warnings, w) }
	l.run(spec, restore.PolicyNever)
	require.Len(t, warnings, 1)
	require.Contains(t, strings.ToLower(warnings[0]), "oom")
}

// TestWarningOfAffinity: an app that keeps off processors is told that its clones don't, and one whose container is limited is not.
func TestWarningOfAffinity(t *testing.T) {
	l := newLab(t)
	spec := l.ruby(`require "fiddle"; $stdout.sync = true
Fiddle::Function.new(Fiddle.dlopen(nil)["sched_setaffinity"], [Fiddle::TYPE_INT, Fiddle::TYPE_SIZE_T, Fiddle::TYPE_VOIDP], Fiddle::TYPE_INT).(0, 8, [1].pack("Q")) == 0 or abort
puts "up"; sleep`)
	warned := func() bool {
		return slices.ContainsFunc(l.build(spec, up).Warnings, func(w string) bool { return strings.Contains(w, "(affinity)") })
	}
	require.True(t, warned())
	spec.Host.CpusetCpus = "0"
	require.False(t, warned())
}
