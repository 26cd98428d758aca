package ociruntime

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestExpectCgroupMove(t *testing.T) {
	before, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	procs, err := ownProcs()
	require.NoError(t, err)
	defer procs.Close()
	var fs unix.Statfs_t
	require.NoError(t, unix.Fstatfs(int(procs.Fd()), &fs))
	require.Contains(t, []int64{unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC}, fs.Type, "%s is a cgroup's", procs.Name())
	_, err = procs.WriteString("0")
	require.NoError(t, err)
	after, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), "nobody is moved")

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	expectCgroupMove(ctx) // ends
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
