package ociruntime

import (
	"context"
	"os"
	"testing"
	"time"

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

// writes counts what is written.
type writes int

func (w *writes) WriteString(s string) (int, error) {
	*w++
	return len(s), nil
}

func TestMovesAheadAreBounded(t *testing.T) {
	var n writes
	moveAhead(t.Context(), &n) // returns, though nothing comes that it waits for
	require.EqualValues(t, mostMoves, n)
}

func TestExpectBreakpoints(t *testing.T) {
	events := perfEvents(t)
	ctx, done := context.WithCancel(t.Context())
	go expectBreakpointsFor(ctx, time.Hour)
	require.Eventually(t, func() bool { return perfEvents(t) == events+1 }, time.Minute, time.Millisecond)
	done()
	require.Eventually(t, func() bool { return perfEvents(t) == events }, time.Minute, time.Millisecond)
	expectBreakpointsFor(t.Context(), time.Millisecond) // returns, though nothing comes that it waits for
	require.Equal(t, events, perfEvents(t))
}

// perfEvents is how many perf events this process has open.
func perfEvents(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && target == "anon_inode:[perf_event]" {
			n++
		}
	}
	return n
}
