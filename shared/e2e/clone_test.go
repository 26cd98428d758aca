package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/restore"
)

func TestEightClonesAtOnceEachWithItsOwnHostname(t *testing.T) {
	l := newLab(t)
	spec := l.spec(tiny, "")
	built := l.build(spec, tinyReady)
	require.False(t, built.Existed)

	var g errgroup.Group
	results := make([]*restore.Result, 8)
	for i := range results {
		g.Go(func() (err error) {
			spec := l.spec(tiny, "")
			spec.Config.Hostname = fmt.Sprintf("clone-%d", i)
			results[i], err = l.tryRun(spec, restore.PolicyAlways)
			return err
		})
	}
	require.NoError(t, g.Wait())
	for i, r := range results {
		require.Equal(t, restore.Hot, r.Start)
		require.Equal(t, built.Ref.String(), r.Ref)
		require.Equal(t, fmt.Sprintf("clone-%d", i), l.sh(r.ContainerID, "hostname"))
		require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/"), "It works")
	}
}

func TestSnapshotIsBuiltOnce(t *testing.T) {
	l := newLab(t)
	first := l.build(l.spec(tiny, ""), tinyReady)
	second := l.build(l.spec(tiny, ""), tinyReady)
	require.True(t, second.Existed)
	require.Equal(t, first.Manifest.Digest, second.Manifest.Digest)
	require.Equal(t, first.Config.Processes, second.Config.Processes)
}

// The app counts in memory, prints hostname and count, and holds files that it wrote, grew and deleted.
const counter = `
echo written > /written; echo 1 > /grown; echo 2 >> /grown; rm /etc/motd 2>/dev/null; mkdir /dir; echo deep > /dir/deep
exec 5>>/log; echo open >&5
exec 6>/ghost; echo unlinked >&6; rm /ghost
n=0; while :; do n=$((n+1)); read host </proc/sys/kernel/hostname; echo "$host $n"; echo $n >&5; echo $n > /count; sleep 0.1; done`

var counting = build.Probe{Type: build.ProbeLog, Pattern: ` 5$`, Timeout: time.Minute}

func TestCloneGoesOnWhereTheDonorWasFrozen(t *testing.T) {
	l := newLab(t)
	spec := l.spec(tiny, counter)
	l.build(spec, counting)

	spec = l.spec(tiny, counter)
	spec.Config.Hostname = "fresh"
	r := l.run(spec, restore.PolicyAlways)
	require.Equal(t, "written", l.sh(r.ContainerID, "cat /written"))
	require.Equal(t, "1\n2", l.sh(r.ContainerID, "cat /grown"))
	require.Equal(t, "deep", l.sh(r.ContainerID, "cat /dir/deep"))
	require.Equal(t, "open", l.sh(r.ContainerID, "head -1 /log"))
	var host string
	var n int
	l.eventually(func() bool {
		_, err := fmt.Sscanf(l.logs(r.ContainerID), "%s %d", &host, &n)
		return err == nil
	}, "it writes a line")
	require.Equal(t, "fresh", host, "the first line that the clone wrote")
	require.Greater(t, n, 5, "the clone did not boot cold")
}

func TestCloneThatEndsIsRestartedHot(t *testing.T) {
	l := newLab(t)
	script := `n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; [ -e /fail ] && { rm /fail; exit 7; }; done`
	l.build(l.spec(tiny, script), build.Probe{Type: build.ProbeLog, Pattern: `^5$`})
	spec := l.spec(tiny, script)
	spec.Host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 1}
	r := l.run(spec, restore.PolicyAlways)
	before, err := l.eng.Client.ContainerInspect(l.ctx, r.ContainerID)
	require.NoError(t, err)
	l.sh(r.ContainerID, "touch /fail")
	l.eventually(func() bool {
		c, err := l.eng.Client.ContainerInspect(l.ctx, r.ContainerID)
		return err == nil && c.RestartCount == 1 && c.State.Running && c.State.Pid != before.State.Pid
	}, "it is restarted")
	require.NotContains(t, "\n"+l.logs(r.ContainerID)+"\n", "\n1\n", "a cold boot would have counted from 1")
}
