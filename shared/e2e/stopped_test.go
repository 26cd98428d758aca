package e2e

import (
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// TestFreezeOfAStoppedProcess: below the freezer of cgroup v1, CRIU would wait for a stopped process for ever, and so would
// every call to the engine about the container. The build says which process it is, and the next one works.
func TestFreezeOfAStoppedProcess(t *testing.T) {
	l := newLab(t)
	stopped := l.spec(tiny, "(while :; do sleep 1; done) & kill -STOP $!; exec httpd -f -p 80 -h /www")
	_, err := l.tryBuild(stopped, tinyReady, criu.DefaultOptions())
	if cgroups.IsCgroup2UnifiedMode() {
		require.NoError(t, err, "cgroup v2 lets CRIU attach")
	} else {
		require.ErrorContains(t, err, "(busybox) is stopped")
		require.ErrorContains(t, err, "SIGCONT")
	}
	require.Empty(t, l.containers(), "no donor is left")
	l.build(l.spec(tiny, ""), tinyReady)
}

// TestFreezeOfATracedProcess: CRIU takes such a process for one that is ending, and tries for two minutes.
func TestFreezeOfATracedProcess(t *testing.T) {
	l := newLab(t)
	_, err := l.tryBuild(l.ruby(`$stdout.sync = true; pid = fork { sleep }; syscall(101, 0x4206, pid, 0, 0); puts "up"; sleep`), up, criu.DefaultOptions())
	require.ErrorContains(t, err, "(ruby) is traced by another process")
	require.Empty(t, l.containers(), "no donor is left")
}
