package ociruntime

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// outcome is what a filter does with a system call whose arguments are all the same.
func outcome(t *testing.T, f *specs.LinuxSeccomp, call string, arg uint64) (specs.LinuxSeccompAction, uint) {
	t.Helper()
	for _, r := range f.Syscalls {
		if !slices.Contains(r.Names, call) {
			continue
		}
		if len(r.Args) == 1 {
			a := r.Args[0]
			require.Equal(t, specs.OpMaskedEqual, a.Op)
			require.Equal(t, map[string]uint{"madvise": 2, "process_madvise": 3}[call], a.Index)
			if arg&a.Value != a.ValueTwo {
				continue
			}
		}
		errno := uint(0)
		if r.ErrnoRet != nil {
			errno = *r.ErrnoRet
		}
		return r.Action, errno
	}
	return f.DefaultAction, 1
}

func TestRefuseGuards(t *testing.T) {
	for name, filter := range map[string]*specs.LinuxSeccomp{
		"all that is allowed is listed": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "madvise", "write"}, Action: specs.ActAllow},
			{Names: []string{"process_madvise"}, Action: specs.ActAllow},
		}},
		"all that is refused is listed": {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActErrno}}},
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, refuseGuards(filter))
			for _, call := range []string{"madvise", "process_madvise"} {
				for _, advice := range []uint64{0, 4, 8, 21, 25, 100, 101, 104, 110, 230, 1<<32 + 4, 1<<31 + 102} {
					action, _ := outcome(t, filter, call, advice)
					require.Equal(t, specs.ActAllow, action, "%s %d", call, advice)
				}
				for _, advice := range []uint64{102, 103, 1<<32 + 102, 1<<63 + 103} { // the kernel takes an int
					action, errno := outcome(t, filter, call, advice)
					require.Equal(t, specs.ActErrno, action, "%s %d", call, advice)
					require.EqualValues(t, unix.EINVAL, errno)
				}
			}
			action, _ := outcome(t, filter, "read", 102)
			require.Equal(t, specs.ActAllow, action)
		})
	}
	require.False(t, refuseGuards(nil), "unconfined")
	require.True(t, refuseGuards(&specs.LinuxSeccomp{DefaultAction: specs.ActErrno}), "all of it is refused")
	own := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"madvise"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 2, Value: 4, Op: specs.OpEqualTo}}},
	}}
	require.False(t, refuseGuards(own), "a profile with rules of its own stays as it is")
	require.Len(t, own.Syscalls, 1)
}
