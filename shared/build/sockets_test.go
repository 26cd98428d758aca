package build

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFreshOptionsSpareChildren: a child with a parent death signal dies with the thread that has started it.
func TestFreshOptionsSpareChildren(t *testing.T) {
	done := make(chan error)
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var before, after string
	go func() {
		runtime.LockOSThread() // the child's thread is the one that looks into the namespace
		err := child.Start()
		runtime.UnlockOSThread()
		if err == nil {
			before, _ = os.Readlink("/proc/thread-self/ns/net")
			_, err = freshOptions(os.Getpid())
			after, _ = os.Readlink("/proc/thread-self/ns/net")
		}
		done <- err
	}()
	require.NoError(t, <-done)
	require.Equal(t, before, after)
	require.NoError(t, child.Process.Signal(syscall.SIGTERM))
	err := child.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGTERM, exit.Sys().(syscall.WaitStatus).Signal(), "ours, and no other")
}
