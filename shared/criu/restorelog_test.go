package criu_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// The log is a shortened one of a restore of Redmine.
func TestRestorePhases(t *testing.T) {
	log, err := os.Open("testdata/logs/restore-good.log")
	require.NoError(t, err)
	defer log.Close()
	const us = time.Microsecond
	require.Equal(t, []criu.Phase{
		{"images", 0, 2144 * us},
		{"fork", 2144 * us, 3398 * us},
		{criu.PhaseForked, 3398 * us, 45715 * us},
		{"cgroups", 45715 * us, 70815 * us},
		{"namespaces", 70815 * us, 72829 * us},
		{"mounts", 72829 * us, 84829 * us},
		{"files", 84829 * us, 89632 * us},
		{"memory", 89632 * us, 191962 * us},
		{"clean up", 191962 * us, 195652 * us},
		{criu.PhaseRestored, 195652 * us, 196074 * us},
		{"resume", 196074 * us, 196114 * us},
	}, criu.RestorePhases(log))
}

func TestRestorePhasesOfWhatIsNotWhole(t *testing.T) {
	require.Empty(t, criu.RestorePhases(strings.NewReader("")))
	require.Empty(t, criu.RestorePhases(strings.NewReader("no log of CRIU's\n(x) at all")))
	for name, test := range map[string]struct {
		log  string
		want []criu.Phase
	}{
		"a phase that CRIU does not have": {
			"(00.1000) not a time\n(00.001000) Version: 4.2.1\n(00.002000) Running setup-namespaces scripts\n(00.005000)      1: Restore via sigreturn\n(00.009000) Running post-resume scripts\n",
			[]criu.Phase{{"images", time.Millisecond, 2 * time.Millisecond}, {criu.PhaseForked, 2 * time.Millisecond, 5 * time.Millisecond}, {"memory", 5 * time.Millisecond, 9 * time.Millisecond}},
		},
		"a failure": {
			"(00.000000) a\n(01.000000) Running pre-restore scripts\n(01.500000) Error (criu/a.c:1): no\n",
			[]criu.Phase{{"images", 0, time.Second}, {"fork", time.Second, 1500 * time.Millisecond}},
		},
		"processes that overtake each other": {
			"(00.000000) a\n(00.500000)     12: Restore via sigreturn\n(00.400000)      1: Restore via sigreturn\n(00.600000) pie: 12: 12: Restored",
			[]criu.Phase{{"images", 0, 500 * time.Millisecond}, {"memory", 500 * time.Millisecond, 600 * time.Millisecond}},
		},
	} {
		require.Equal(t, test.want, criu.RestorePhases(strings.NewReader(test.log)), name)
	}
}
