package ociruntime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const globals = "--root /run/docker/runtime-runc/moby --log /b/log.json --log-format json"

func TestParseWhatContainerdCalls(t *testing.T) {
	tests := []struct {
		line string
		want invocation
	}{
		{
			"create --bundle /b --pid-file /b/init.pid --console-socket /tmp/pty --no-pivot --no-new-keyring ID",
			invocation{command: "create", bundle: "/b", pidFile: "/b/init.pid", consoleSocket: "/tmp/pty", noPivot: true},
		},
		{"create -b /b ID", invocation{command: "create", bundle: "/b"}},
		{"create ID", invocation{command: "create", bundle: "."}},
		{"start ID", invocation{command: "start"}},
		{"kill ID 9", invocation{command: "kill"}},
		{"kill --all ID 15", invocation{command: "kill"}},
		{"delete ID", invocation{command: "delete"}},
		{"delete --force ID", invocation{command: "delete", force: true}},
		{"checkpoint --image-path /i --work-path /w --leave-running --file-locks ID", invocation{command: "checkpoint", leaveRunning: true}},
		{"checkpoint --image-path=/i ID", invocation{command: "checkpoint"}},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			args := strings.Fields(globals + " " + tt.line)
			got, err := parse(args)
			require.NoError(t, err)
			tt.want.args, tt.want.global, tt.want.id = args, strings.Fields(globals), "ID"
			tt.want.root, tt.want.log, tt.want.logFormat = "/run/docker/runtime-runc/moby", "/b/log.json", "json"
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseKnowsSystemdAndRuncsDefaults(t *testing.T) {
	inv, err := parse([]string{"--systemd-cgroup", "start", "ID"})
	require.NoError(t, err)
	require.True(t, inv.systemdCgroup)
	require.Equal(t, "/run/runc", inv.root)
	require.Equal(t, "text", inv.logFormat)
}

func TestParseLeavesTheRestToRunc(t *testing.T) {
	for _, line := range []string{
		"", "--version", "features", "state ID", "exec --process /p ID", "pause ID", "resume ID", "events --stats ID", "ps ID",
		"update --resources - ID", "restore --image-path /i ID", "list",
		"create", "start", "kill", // errors in usage, for runc to report
		"--global-of-the-future start ID", "kill --flag-of-the-future ID 9",
	} {
		_, err := parse(strings.Fields(line))
		require.ErrorIs(t, err, errNotOurs, line)
	}
}

// TestFlagsOfTheFuture: what we have no part in may be runc's, but a container of ours must not come up as if the flag were not there.
func TestFlagsOfTheFuture(t *testing.T) {
	for _, line := range []string{"create --flag-of-the-future --bundle /b ID", "create --bundle /b --flag-of-the-future=x ID"} {
		inv, err := parse(strings.Fields(globals + " " + line))
		require.NoError(t, err)
		require.Equal(t, "ID", inv.id)
		require.ErrorContains(t, inv.unknown, "create does not understand how it was called (unknown flag: --flag-of-the-future): update criu-docker")

		c := container{run: RunDir(t.TempDir()), id: inv.id}
		inv.bundle = t.TempDir()
		err = c.do(inv, Request{Kind: KindClone})
		require.ErrorIs(t, err, inv.unknown, "policy always")
		err = c.do(inv, Request{Kind: KindDonor})
		require.ErrorIs(t, err, inv.unknown)
		require.NoError(t, c.run.Attend(c.id, Attendance{}))
		err = c.do(inv, Request{Kind: KindClone, ColdBoot: true})
		require.ErrorIs(t, err, inv.unknown, "the caller decides by the policy")
	}
}

func TestErrorsReachTheEngine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log.json")
	invocation{log: file, logFormat: "json"}.logError(errors.New(`no "such" thing`))
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var entry map[string]string
	require.NoError(t, json.Unmarshal(b, &entry))
	require.Equal(t, "error", entry["level"])
	require.Equal(t, `no "such" thing`, entry["msg"])

	require.NoError(t, os.Remove(file))
	invocation{log: file, logFormat: "text"}.logError(errors.New("no such thing"))
	b, err = os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(b), `level=error msg="no such thing"`)
}
