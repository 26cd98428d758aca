package ociruntime

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExpectCgroupMove(t *testing.T) {
	before, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	procs, err := ownProcs()
	require.NoError(t, err)
	require.NoError(t, procs.Close())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		expectCgroupMove(ctx)
	}()
	cancel()
	<-done
	after, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "nobody is moved")
}

func TestExpectBreakpoint(t *testing.T) {
	events := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		for _, fd := range fds {
			if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && target == "anon_inode:[perf_event]" {
				n++
			}
		}
		return n
	}
	done := expectBreakpoint()
	require.Equal(t, 1, events())
	done()
	require.Zero(t, events())
}
