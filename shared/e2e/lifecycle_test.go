package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// The app counts on standard output and tells which signals it gets.
const signalled = `
trap 'echo got HUP' HUP; trap 'echo got TERM; exit 9' TERM
n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done`

var counted = build.Probe{Type: build.ProbeLog, Pattern: `^5$`}

func TestCloneObeysTheEngine(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, signalled), counted)
	r := l.run(l.spec(tiny, signalled), restore.PolicyAlways)

	t.Run("exec", func(t *testing.T) {
		require.Equal(t, "in the clone", l.sh(r.ContainerID, "echo in the clone"))
		require.ErrorContains(t, l.eng.Exec(l.ctx, r.ContainerID, []string{"/bin/busybox", "sh", "-c", "exit 3"}), "exit code 3")
	})
	t.Run("stats", func(t *testing.T) {
		stats := l.stats(r.ContainerID)
		require.NotZero(t, stats.MemoryStats.Usage)
		require.NotZero(t, stats.PidsStats.Current)
		require.Contains(t, stats.Networks, "eth0")
	})
	t.Run("top", func(t *testing.T) {
		top, err := l.eng.Client.ContainerTop(l.ctx, r.ContainerID, nil)
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(top.Processes), "trap 'echo got HUP' HUP")
	})
	t.Run("pause", func(t *testing.T) {
		require.NoError(t, l.eng.Client.ContainerPause(l.ctx, r.ContainerID))
		require.Equal(t, "paused", l.state(r.ContainerID).Status)
		before := l.lastCount(r.ContainerID)
		require.NoError(t, l.eng.Client.ContainerUnpause(l.ctx, r.ContainerID))
		l.eventually(func() bool { return l.lastCount(r.ContainerID) > before }, "it counts on")
	})
	t.Run("freeze", func(t *testing.T) {
		require.ErrorContains(t, l.eng.Freeze(l.ctx, r.ContainerID), "is a clone")
		before := l.lastCount(r.ContainerID)
		l.eventually(func() bool { return l.lastCount(r.ContainerID) > before }, "it counts on")
	})
	t.Run("update", func(t *testing.T) {
		_, err := l.eng.Client.ContainerUpdate(l.ctx, r.ContainerID, container.UpdateConfig{
			Resources: container.Resources{Memory: 64 << 20, MemorySwap: 128 << 20},
		})
		require.NoError(t, err)
		require.EqualValues(t, 64<<20, l.stats(r.ContainerID).MemoryStats.Limit)
	})
	t.Run("kill with a signal that the app handles", func(t *testing.T) {
		require.NoError(t, l.eng.Client.ContainerKill(l.ctx, r.ContainerID, "HUP"))
		l.eventually(func() bool { return strings.Contains(l.logs(r.ContainerID), "got HUP") }, "the app's trap")
		require.True(t, l.state(r.ContainerID).Running)
	})
	t.Run("restart", func(t *testing.T) {
		pid := l.state(r.ContainerID).Pid
		require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, r.ContainerID, container.StopOptions{}))
		require.True(t, l.state(r.ContainerID).Running)
		require.NotEqual(t, pid, l.state(r.ContainerID).Pid)
		require.EqualValues(t, 64<<20, l.stats(r.ContainerID).MemoryStats.Limit, "the updated limit")
	})
	t.Run("stop", func(t *testing.T) {
		require.NoError(t, l.eng.Client.ContainerStop(l.ctx, r.ContainerID, container.StopOptions{}))
		require.Contains(t, l.logs(r.ContainerID), "got TERM")
		require.Equal(t, 9, l.state(r.ContainerID).ExitCode)
	})
	t.Run("start after stop", func(t *testing.T) {
		require.NoError(t, l.eng.Start(l.ctx, r.ContainerID))
		require.Equal(t, "here", l.sh(r.ContainerID, "echo here"))
		require.NotContains(t, "\n"+l.logs(r.ContainerID)+"\n", "\n1\n", "a cold boot would have counted from 1")
	})
	t.Run("kill", func(t *testing.T) {
		require.NoError(t, l.eng.Client.ContainerKill(l.ctx, r.ContainerID, "KILL"))
		require.NoError(t, l.eng.WaitStopped(l.ctx, r.ContainerID))
		require.Equal(t, 137, l.state(r.ContainerID).ExitCode)
	})
}

// lastCount is the last number that the app wrote.
func (l *lab) lastCount(id string) int {
	l.Helper()
	lines := strings.Split(l.logs(id), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if n, err := strconv.Atoi(lines[i]); err == nil {
			return n
		}
	}
	return 0
}

func (l *lab) stats(id string) (stats container.StatsResponse) {
	l.Helper()
	resp, err := l.eng.Client.ContainerStatsOneShot(l.ctx, id)
	require.NoError(l, err)
	defer resp.Body.Close()
	require.NoError(l, json.NewDecoder(resp.Body).Decode(&stats))
	return stats
}

func TestLimitsAreTheClonesOwn(t *testing.T) {
	l := newLab(t)
	limited := func(n int64) engine.Spec {
		s := l.spec(tiny, signalled)
		s.Host.Resources = container.Resources{Memory: n << 20, NanoCPUs: n * 1e7, PidsLimit: &n}
		return s
	}
	l.build(limited(100), counted)

	for _, n := range []int64{50, 200} { // less than the donor had, and more
		r := l.run(limited(n), restore.PolicyAlways)
		stats := l.stats(r.ContainerID)
		require.EqualValues(t, n<<20, stats.MemoryStats.Limit)
		require.EqualValues(t, n, stats.PidsStats.Limit)
		quota := l.cgroup(r.ContainerID, "cpu", "cpu.cfs_quota_us", "cpu.max")
		require.Equal(t, strconv.FormatInt(n*1000, 10), quota, "microseconds in each tenth of a second")
	}
}

// firstCount is the first number that the app wrote.
func (l *lab) firstCount(id string) (n int) {
	l.Helper()
	l.eventually(func() bool {
		first, _, _ := strings.Cut(l.logs(id), "\n")
		var err error
		n, err = strconv.Atoi(first)
		return err == nil
	}, "the app counts")
	return n
}

// cgroup reads the first word of a container's control file: v1's in the controller's hierarchy, or v2's.
func (l *lab) cgroup(id, controller, v1, v2 string) string {
	l.Helper()
	memberships, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", l.state(id).Pid))
	require.NoError(l, err)
	file := ""
	for line := range strings.Lines(string(memberships)) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, dir, _ := strings.Cut(rest, ":")
		if slices.Contains(strings.Split(controllers, ","), controller) {
			file = filepath.Join("/sys/fs/cgroup", controllers, dir, v1)
			break
		}
		if number == "0" {
			file = filepath.Join("/sys/fs/cgroup", dir, v2)
		}
	}
	content, err := os.ReadFile(file)
	require.NoError(l, err)
	word, _, _ := strings.Cut(strings.TrimSpace(string(content)), " ")
	return word
}

func TestFailedRestoreIsReportedAtStart(t *testing.T) {
	l := newLab(t)
	data := filepath.Join(l.dir, "data")
	require.NoError(t, os.Mkdir(data, 0o755))
	write := func(content string) {
		require.NoError(t, os.WriteFile(filepath.Join(data, "file"), []byte(content), 0o644))
	}
	write("12345")
	spec := l.spec(tiny, `exec 5</data/file; echo up; while :; do sleep 1; done`)
	spec.Host.Binds = []string{data + ":/data"}
	l.build(spec, up)
	r := l.run(spec, restore.PolicyAlways)
	require.NoError(t, l.eng.Client.ContainerKill(l.ctx, r.ContainerID, "KILL"))
	require.NoError(t, l.eng.WaitStopped(l.ctx, r.ContainerID))

	write("123")
	const meaning = "/data/file has 3 bytes here and had 5 when the donor was frozen: give the clone the same image"
	err := l.eng.Start(l.ctx, r.ContainerID)
	require.ErrorContains(t, err, meaning)
	require.ErrorContains(t, err, "(CRIU: Error (criu/files-reg.c")
	require.False(t, l.state(r.ContainerID).Running)
	_, err = l.tryRun(spec, restore.PolicyAlways)
	require.ErrorContains(t, err, "start from a snapshot: restore: "+meaning)

	write("12345")
	require.NoError(t, l.eng.Start(l.ctx, r.ContainerID))
	require.True(t, l.state(r.ContainerID).Running)
}
