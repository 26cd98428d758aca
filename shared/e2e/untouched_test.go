package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// A container that is to be neither a clone nor a donor is runc's: what the runtime gets and what the app sees are the
// same under both names.
func TestContainerWithoutARequestIsUntouched(t *testing.T) {
	l := newLab(t)
	start := func(runtime string) string {
		spec := l.spec(tiny, signalled)
		spec.Config.Hostname = "same"
		id, err := l.eng.Create(l.ctx, spec, runtime)
		require.NoError(t, err)
		require.NoError(t, l.eng.Start(l.ctx, id))
		return id
	}
	ours, runcs := start(engine.RuntimeName), start("runc")

	require.Equal(t, l.bundle(runcs), l.bundle(ours))
	const view = `grep -E '^(Cap|Seccomp|NoNewPrivs|NSpid)' /proc/1/status; cut -d' ' -f5- /proc/1/mountinfo | cut -d- -f1 | sort; env; id; hostname; ls /proc/1/fd /sys/class/net`
	require.Equal(t, l.hideIDs(runcs, l.sh(runcs, view)), l.hideIDs(ours, l.sh(ours, view)))
	for _, dir := range []string{
		filepath.Join(ociruntime.DefaultRunDir, "containers"), filepath.Join(ociruntime.DefaultRunDir, "netns"), ociruntime.DefaultRequestDir,
	} {
		made, err := filepath.Glob(filepath.Join(dir, ours+"*"))
		require.NoError(t, err)
		require.Empty(t, made)
	}

	require.NoError(t, l.eng.Client.ContainerPause(l.ctx, ours))
	require.NoError(t, l.eng.Client.ContainerUnpause(l.ctx, ours))
	l.eventually(func() bool { // the engine may hear of the pause from containerd only after it has undone it, and refuse meanwhile
		err := l.eng.Exec(l.ctx, ours, []string{"/bin/busybox", "sh", "-c", "exit 3"})
		return err != nil && strings.Contains(err.Error(), "exit code 3")
	}, "exit code 3")
	require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, ours, container.StopOptions{}))
	require.Contains(t, l.logs(ours), "got TERM")
	require.NoError(t, l.eng.Client.ContainerKill(l.ctx, ours, "KILL"))
	require.NoError(t, l.eng.WaitStopped(l.ctx, ours))
	require.Equal(t, 137, l.state(ours).ExitCode)
}

// bundle is what a runtime is given for a running container, without what differs between any two containers.
func (l *lab) bundle(id string) (spec specs.Spec) {
	l.Helper()
	file := "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/" + id + "/config.json"
	b, err := os.ReadFile(file)
	require.NoError(l, err)
	require.NoError(l, json.Unmarshal([]byte(l.hideIDs(id, string(b))), &spec))
	return spec
}

// hideIDs replaces the names that are a container's own: its id, and its layer's.
func (l *lab) hideIDs(id, text string) string {
	l.Helper()
	layer := filepath.Base(filepath.Dir(l.inspect(id).GraphDriver.Data["MergedDir"]))
	return strings.NewReplacer(id, "ID", id[:12], "ID", layer, "LAYER").Replace(text)
}
