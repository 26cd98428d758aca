package build

import (
	"fmt"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLostAffinity(t *testing.T) {
	var own unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &own))
	first := 0
	for !own.IsSet(first) {
		first++
	}
	app := exec.Command("sleep", "100")
	require.NoError(t, app.Start())
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	var one unix.CPUSet
	one.Set(first)
	require.NoError(t, unix.SchedSetaffinity(app.Process.Pid, &one))

	const ended = 1 << 30
	for processors, lost := range map[string]int{strconv.Itoa(first): 0, "0-63": 1, fmt.Sprintf("%d,%d", first, first+1): 1} {
		got, err := lostAffinity([]int{ended, app.Process.Pid}, processors)
		require.NoError(t, err)
		require.Len(t, got, lost, processors)
	}
	_, err := lostAffinity(nil, "many")
	require.ErrorContains(t, err, `"many"`)
}
