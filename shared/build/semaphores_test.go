package build

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLostSemaphores(t *testing.T) {
	counter, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(counter)
	require.Empty(t, lostSemaphores([]int{os.Getpid()}))

	semaphore, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_SEMAPHORE)
	require.NoError(t, err)
	defer unix.Close(semaphore)
	warnings := lostSemaphores([]int{os.Getpid()})
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "EFD_SEMAPHORE")
}
