package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// The app answers what it reads.
const echoing = `echo up; while read line; do echo "got $line"; done; echo end of input; exec sleep 1000`

var up = build.Probe{Type: build.ProbeLog, Pattern: `up`}

func TestCloneReadsItsStandardInput(t *testing.T) {
	l := newLab(t)
	spec := func() engine.Spec {
		s := l.spec(tiny, echoing)
		s.Config.OpenStdin, s.Config.StdinOnce = true, true
		return s
	}
	l.build(spec(), up)
	r := l.run(spec(), restore.PolicyAlways)
	attached := l.attach(r.ContainerID)
	_, err := attached.Conn.Write([]byte("this\nand that\n"))
	require.NoError(t, err)
	require.NoError(t, attached.CloseWrite())
	l.eventually(func() bool { return l.logs(r.ContainerID) == "got this\ngot and that\nend of input" }, "the app reads")
}

func TestContainerWithATerminalBootsCold(t *testing.T) {
	l := newLab(t)
	spec := l.spec(tiny, echoing)
	spec.Config.OpenStdin = true
	l.build(spec, up)

	spec.Config.Tty = true
	_, err := l.tryBuild(spec, up, criu.DefaultOptions())
	require.ErrorContains(t, err, "a container with a terminal can't be restored")
	_, err = l.tryRun(spec, restore.PolicyAlways)
	require.ErrorContains(t, err, "the container has a terminal")
	r := l.run(spec, restore.PolicyIfPresent)
	require.Equal(t, restore.Cold, r.Start)
	require.Contains(t, r.Reason, "the container has a terminal")

	attached := l.attach(r.ContainerID)
	_, err = attached.Conn.Write([]byte("this\n"))
	require.NoError(t, err)
	l.eventually(func() bool { return strings.Contains(l.logs(r.ContainerID), "got this") }, "the app reads from its terminal")
}

// attach connects to a container's streams.
func (l *lab) attach(id string) types.HijackedResponse {
	l.Helper()
	attached, err := l.eng.Client.ContainerAttach(l.ctx, id, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	require.NoError(l, err)
	l.Cleanup(attached.Close)
	return attached
}

func TestEachCloneHasItsOwnEnvFile(t *testing.T) {
	l := newLab(t)
	const inside = "/etc/app.env"
	script := `while :; do . ` + inside + `; echo "$WHO"; sleep 0.05; done`
	spec := func(who string) engine.Spec {
		file := filepath.Join(l.dir, who+".env")
		require.NoError(t, os.WriteFile(file, []byte("WHO="+who+"\n"), 0o644))
		s := l.spec(tiny, script)
		s.Host.Binds = []string{file + ":" + inside + ":ro"}
		return s
	}
	l.build(spec("donor"), build.Probe{Type: build.ProbeLog, Pattern: "^donor$"})
	for _, who := range []string{"somebody", "me"} {
		r := l.run(spec(who), restore.PolicyAlways)
		l.eventually(func() bool { return strings.HasSuffix(l.logs(r.ContainerID), who) }, "the app reads "+who+".env")
	}
}

func TestCloneUnderAnInit(t *testing.T) {
	l := newLab(t)
	spec := func() engine.Spec {
		yes := true
		s := l.spec(tiny, signalled)
		s.Host.Init = &yes
		return s
	}
	l.build(spec(), counted)
	r := l.run(spec(), restore.PolicyAlways)
	require.Equal(t, "docker-init", l.sh(r.ContainerID, "cat /proc/1/comm"))
	require.NoError(t, l.eng.Client.ContainerStop(l.ctx, r.ContainerID, container.StopOptions{}))
	require.Contains(t, l.logs(r.ContainerID), "got TERM", "the init passes signals on")
	require.Equal(t, 9, l.state(r.ContainerID).ExitCode)
	require.Greater(t, l.firstCount(r.ContainerID), 1, "a cold boot would have counted from 1")
}
