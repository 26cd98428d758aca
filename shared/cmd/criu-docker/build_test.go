package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

var buildSteps = []string{"image", "queue", "create", "boot", "freeze", "rootfs", "profile", "publish"}

func TestBuildPrintsLines(t *testing.T) {
	p := newProgram(t)
	o := p.call(p.buildArgs("--warmup", "GET /", "--warmup-count", "2")...)
	require.Zero(t, o.code, o.stderr)
	ref, err := snapshot.ParseRef(strings.TrimSuffix(o.stdout, "\n"))
	require.NoError(t, err, "only the ref is on standard output")
	require.NotContains(t, o.stderr, "\x1b", "no control sequences where no terminal is")
	var steps []string
	for _, line := range strings.Split(strings.TrimSpace(o.stderr), "\n") {
		step, _, _ := strings.Cut(line, " ")
		steps = append(steps, step)
	}
	require.Equal(t, []string{"image", "queue", "create", "boot", "warmup", "freeze", "rootfs", "profile", "publish"}, steps)
	require.Contains(t, o.stderr, "iB)", "the last step says how much was written")
	require.Empty(t, p.containers(), "the donor is gone")

	o = p.call(p.buildArgs()...)
	require.Zero(t, o.code, o.stderr)
	require.Equal(t, ref.String()+"\n", o.stdout)
	require.Contains(t, o.stderr, "--force")
}

func TestBuildPrintsJSON(t *testing.T) {
	p := newProgram(t)
	event := func(o outcome) []map[string]any {
		t.Helper()
		require.Zero(t, o.code, o.stderr)
		require.Empty(t, o.stderr)
		return documents[map[string]any](t, o.stdout)
	}
	events := event(p.call(p.buildArgs("--json")...))
	var begun, ended []string
	for _, e := range events[:len(events)-1] {
		switch e["event"] {
		case "begin":
			begun = append(begun, e["step"].(string))
		case "end":
			ended = append(ended, e["step"].(string))
			require.Positive(t, e["seconds"])
		}
	}
	require.Equal(t, buildSteps, begun)
	require.Equal(t, buildSteps, ended)
	built := events[len(events)-1]
	require.Equal(t, "built", built["event"])
	require.Positive(t, built["memory_bytes"])
	require.Positive(t, built["packed_bytes"])
	require.Contains(t, built["digest"], "sha256:")

	events = event(p.call(p.buildArgs("--json")...))
	again := events[len(events)-1]
	require.Equal(t, "existed", again["event"])
	require.Equal(t, built["ref"], again["ref"])
	require.Equal(t, built["digest"], again["digest"])

	events = event(p.call(p.buildArgs("--json", "--force")...))
	forced := events[len(events)-1]
	require.Equal(t, "built", forced["event"])
	require.Equal(t, built["ref"], forced["ref"])
	require.NotEqual(t, built["digest"], forced["digest"])
}

// On a terminal every step has a bar; standard output still holds nothing but the ref, for scripts.
func TestBuildShowsBarsOnTerminal(t *testing.T) {
	p := newProgram(t)
	terminal, theirs, err := pty.Open()
	require.NoError(t, err)
	defer terminal.Close()
	require.NoError(t, pty.Setsize(terminal, &pty.Winsize{Rows: 24, Cols: 100}))
	var stdout bytes.Buffer
	cmd := p.command(p.buildArgs()...)
	cmd.Stdout, cmd.Stderr = &stdout, theirs
	require.NoError(t, cmd.Start())
	require.NoError(t, theirs.Close())
	shown, err := io.ReadAll(terminal) // a terminal whose last user has gone fails with EIO
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, cmd.Wait(), string(shown))

	_, err = snapshot.ParseRef(strings.TrimSpace(stdout.String()))
	require.NoError(t, err)
	require.Contains(t, string(shown), "\x1b[", "bars are drawn again and again")
	for _, step := range buildSteps {
		require.Contains(t, string(shown), step)
	}
	require.Regexp(t, `\[=+>?-*\] [0-9.]+ [KM]iB / [0-9.]+ [KM]iB`, string(shown), "publishing counts bytes")
}

// A signal at any point leaves no donor, no files and no snapshot.
func TestBuildInterrupted(t *testing.T) {
	for step, signal := range map[string]syscall.Signal{"create": syscall.SIGINT, "boot": syscall.SIGINT, "freeze": syscall.SIGTERM, "rootfs": syscall.SIGINT} {
		t.Run(step, func(t *testing.T) {
			p := newProgram(t)
			args := p.buildArgs("--json")
			if step == "boot" {
				args = append(args, "--ready", "log:never")
			}
			var stderr strings.Builder
			cmd := p.command(args...)
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				var e stepEvent
				require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
				require.NotEqual(t, "built", e.Event)
				if e.Event == "begin" && e.Step == step {
					require.NoError(t, cmd.Process.Signal(signal))
				}
			}
			var exit *exec.ExitError
			require.ErrorAs(t, cmd.Wait(), &exit)
			require.Equal(t, 128+int(signal), exit.ExitCode(), stderr.String())
			require.Contains(t, stderr.String(), signal.String())
			require.Empty(t, p.containers())
			left, err := filepath.Glob(p.path("work", "build-*"))
			require.NoError(t, err)
			require.Empty(t, left)
			require.NoDirExists(t, p.path("store", "refs"))
		})
	}
}

func TestBuildFails(t *testing.T) {
	p := newProgram(t)
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"the app ends":    {p.buildArgs("--entrypoint", "/bin/busybox", "--", "sh", "-c", "echo no database >&2; exit 7"), []string{"exit code 7", "no database"}},
		"never ready":     {p.buildArgs("--ready", "http://:81/", "--ready-timeout", "500ms"), []string{"did not become ready within 500ms"}},
		"wrong status":    {p.buildArgs("--ready", "http://:80/nothing", "--ready-timeout", "500ms"), []string{"/nothing answered 404"}},
		"bad warm-up":     {p.buildArgs("--warmup", "GET :81/"), []string{"warm-up request 1"}},
		"no such image":   {[]string{"build", "no-such-image:1", "--ready", "tcp://:80"}, []string{"no-such-image:1"}},
		"no such command": {p.buildArgs("--entrypoint", "/no/such/program"), []string{"/no/such/program"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := p.call(test.args...)
			require.Equal(t, exitFailure, o.code, o.stderr)
			require.Empty(t, o.stdout)
			for _, want := range test.want {
				require.Contains(t, o.stderr, want)
			}
			require.Empty(t, p.containers())
		})
	}
	require.NoDirExists(t, p.path("store", "refs"))
}

// What CRIU can't freeze is told with the flag that lets it; with the flag, the clone has what the donor had.
func TestBuildNamesTheFlagThatCRIUNeeds(t *testing.T) {
	for name, test := range map[string]struct{ script, flag, refusal, check, want string }{
		"large deleted":     {"exec 9<>/big; head -c 2000000 /dev/zero >&9; rm /big", "--ghost-limit", "the deleted file /big of 200", "wc -c </proc/1/fd/9", "2000000"},
		"deleted, has name": {"echo kept >/a; ln /a /b; exec 9</a; rm /a", "--link-remap", "still exists under another", "cat /proc/1/fd/9", "kept"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProgram(t)
			command := []string{"--", "sh", "-c", "cd /bin; " + test.script + "; echo ready; while :; do sleep 1; done"}
			flags := []string{"--entrypoint", "/bin/busybox", "--ready", "log:^ready$"}
			without := map[string]string{"--link-remap": "=false", "--ghost-limit": "=1MiB"}[test.flag]
			o := p.call(p.buildArgs(append(append(flags, test.flag+without), command...)...)...)
			require.Equal(t, exitFailure, o.code, o.stderr)
			require.Contains(t, o.stderr, test.refusal)
			require.Contains(t, o.stderr, test.flag)
			require.Empty(t, p.containers())

			with := map[string]string{"--ghost-limit": "=4MiB"}[test.flag]
			p.ok(p.buildArgs(append(append(flags, test.flag+with), command...)...)...)
			id := p.ok(p.runArgs(tinyImage, append([]string{"--entrypoint", "/bin/busybox", "--policy", "always"}, command...)...)...)
			require.Equal(t, test.want, p.exec(id, "sh", "-c", test.check))
		})
	}
}
