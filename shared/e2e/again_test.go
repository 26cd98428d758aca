package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// A reboot takes what is on /run; a hand in the wrong directory takes more. The engine starts the container again all the same, and
// what becomes of it is what its policy says.
func TestCloneIsStartedAgain(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, signalled), counted)
	for name, test := range map[string]struct {
		policy restore.Policy
		take   func(id string)
		start  restore.Start // "" if it fails
		reason string
	}{
		"after a reboot":                        {restore.PolicyAlways, func(string) {}, restore.Hot, ""},
		"without its request":                   {restore.PolicyIfPresent, l.takeRequest, restore.Cold, "what this machine knew of it is gone"},
		"without its request, cold forbidden":   {restore.PolicyAlways, l.takeRequest, "", "what this machine knew of it is gone: remove it and start another one"},
		"with half a request":                   {restore.PolicyIfPresent, l.cutRequest, restore.Cold, "it can't be read"},
		"without its directory":                 {restore.PolicyIfPresent, l.takeClone, restore.Cold, "what it would be restored from is gone"},
		"without its directory, cold forbidden": {restore.PolicyAlways, l.takeClone, "", "what it would be restored from is gone"},
		"without an image":                      {restore.PolicyIfPresent, l.takeImage, restore.Cold, "CRIU"},
	} {
		t.Run(name, func(t *testing.T) {
			r := l.run(l.spec(tiny, signalled), test.policy)
			defer l.removeContainer(r)
			require.Equal(t, restore.Hot, r.Start)
			require.NoError(t, l.eng.Client.ContainerKill(l.ctx, r.ContainerID, "KILL"))
			require.NoError(t, l.eng.WaitStopped(l.ctx, r.ContainerID))
			l.reboot(r.ContainerID)
			test.take(r.ContainerID)

			before := len(l.logs(r.ContainerID))
			err := l.eng.Start(l.ctx, r.ContainerID)
			report := l.report(r.ContainerID)
			if test.start == "" {
				require.ErrorContains(t, err, test.reason)
				require.Contains(t, report.Error, test.reason)
				require.False(t, l.state(r.ContainerID).Running)
				return
			}
			require.NoError(t, err)
			require.Contains(t, report.Cold, test.reason)
			require.Equal(t, test.start == restore.Cold, report.Cold != "")
			since := func() string { return l.logs(r.ContainerID)[before:] }
			l.eventually(func() bool { return strings.Count(since(), "\n") > 3 }, "it counts")
			require.Equal(t, test.start == restore.Cold, strings.Contains(since(), "\n1\n"), "%q", since())
			require.Equal(t, "here", l.sh(r.ContainerID, "echo here"))
			require.NoError(t, l.eng.Client.ContainerKill(l.ctx, r.ContainerID, "HUP"))
			l.eventually(func() bool { return l.lastCount(r.ContainerID) > 3 }, "it counts on")
		})
	}
	require.NoError(t, restore.Sweep(l.ctx, l.eng, l.cache))
	l.nothingIsLeft()
}

// reboot takes what a reboot takes of a container that has ended.
func (l *lab) reboot(id string) {
	l.Helper()
	require.NoError(l, os.RemoveAll(filepath.Join(ociruntime.DefaultRunDir, "containers", id)))
	netns := filepath.Join(ociruntime.DefaultRunDir, "netns", id)
	if err := unix.Unmount(netns, unix.MNT_DETACH); err == nil {
		require.NoError(l, os.Remove(netns))
	}
}

func (l *lab) takeRequest(id string) {
	l.Helper()
	require.NoError(l, os.Remove(filepath.Join(ociruntime.DefaultRequestDir, id+".json")))
}

func (l *lab) cutRequest(id string) {
	l.Helper()
	require.NoError(l, os.Truncate(filepath.Join(ociruntime.DefaultRequestDir, id+".json"), 10))
}

func (l *lab) takeClone(id string) {
	l.Helper()
	require.NoError(l, os.RemoveAll(filepath.Join(l.dir, "cache", "clones", id)))
}

func (l *lab) takeImage(id string) {
	l.Helper()
	require.NoError(l, os.Remove(filepath.Join(l.dir, "cache", "clones", id, "checkpoint", "pstree.img")))
}
