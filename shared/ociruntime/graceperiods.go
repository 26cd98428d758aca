package ociruntime

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Twice in a restore, a process waits until every CPU has been through the kernel's scheduler (an RCU grace period), which
// takes about ten milliseconds, while others wait for that process. Waiting for the same reason shortly before saves them that.
// So it is done ahead, while nothing waits for it yet. It is advice to the kernel, and nothing is lost when it fails.

// How often processes are moved ahead, and the pause between. A move keeps every process of the machine from forking and ending
// while it is under way, so there are no more than a restore takes to come to its own.
const (
	mostMoves = 50
	soon      = 2 * time.Millisecond
)

// expectCgroupMove makes moves of processes between cgroups fast until ctx ends, or for a tenth of a second: runc moves CRIU to
// the clone's. The lock for that is cheap for its readers, all forks and exits, and slow to get for a first writer, but not for
// one that comes soon after (kernel/rcu/sync.c).
func expectCgroupMove(ctx context.Context) {
	procs, err := ownProcs()
	if err != nil {
		return
	}
	defer procs.Close()
	moveAhead(ctx, procs)
}

func moveAhead(ctx context.Context, procs io.StringWriter) {
	for range mostMoves {
		if ctx.Err() != nil {
			return
		}
		if _, err := procs.WriteString("0"); err != nil { // to where this process is already
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(soon):
		}
	}
}

// ownProcs opens the file by which processes are moved to this process's cgroup, of any hierarchy.
func ownProcs() (*os.File, error) {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	err = os.ErrNotExist
	for controller, path := range own { // version 2 has one, without a name
		var f *os.File
		if f, err = os.OpenFile(filepath.Join("/sys/fs/cgroup", controller, path, "cgroup.procs"), os.O_WRONLY, 0); err == nil {
			return f, nil
		}
	}
	return nil, err
}

// breakpointsLimit bounds how long breakpoints are expected: the kernel watches all switches of tasks on the machine meanwhile. A
// clone that waits longer for its start gets slow ones.
const breakpointsLimit = 5 * time.Second

// expectBreakpoints makes breakpoints that are set with ptrace(2) fast ones until ctx ends: CRIU stops the app's tasks by
// breakpoints in the end. The first event of any task makes the kernel watch all switches of tasks, and the others find it so
// (kernel/events/core.c, perf_sched_events).
func expectBreakpoints(ctx context.Context) {
	expectBreakpointsFor(ctx, breakpointsLimit)
}

func expectBreakpointsFor(ctx context.Context, limit time.Duration) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Config: unix.PERF_COUNT_SW_DUMMY,
		Bits:   unix.PerfBitDisabled,
	}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	select {
	case <-ctx.Done():
	case <-time.After(limit):
	}
}
