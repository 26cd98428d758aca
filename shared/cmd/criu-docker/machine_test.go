package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/doctor"
	"github.com/criu-docker/criu-docker/shared/runtimeinstall"
)

func TestDoctor(t *testing.T) {
	p := newProgram(t)
	text := p.ok("doctor")
	require.Equal(t, []string{"STATUS", "CHECK", "FOUND"}, strings.Fields(strings.SplitN(text, "\n", 2)[0]))
	for _, want := range []string{"docker engine", "runtime criu-docker", "CRIU", "kernel"} {
		require.Contains(t, text, want)
	}
	for _, c := range documents[doctor.Check](t, p.ok("doctor", "--json")) {
		require.NotEqual(t, doctor.Fail, c.Status, c)
	}

	o := p.call("doctor", "-H", "unix://"+p.path("docker.sock"), "--cache", "/proc/1")
	require.Equal(t, exitFailure, o.code)
	require.Empty(t, o.stderr, "the table says it")
	require.Contains(t, o.stdout, "install and start Docker Engine")
	require.Contains(t, o.stdout, "--cache")
	failed := map[string]bool{}
	o = p.call("doctor", "--json", "-H", "unix://"+p.path("docker.sock"))
	require.Equal(t, exitFailure, o.code)
	for _, c := range documents[doctor.Check](t, o.stdout) {
		failed[c.Name] = c.Status == doctor.Fail
	}
	require.True(t, failed["docker engine"])
}

// No dockerd answers at this test's address, so that none is reloaded.
func TestRuntimeInstall(t *testing.T) {
	p := newProgram(t)
	binary, config := p.path("bin", "criu-docker-runc"), p.path("daemon.json")
	before := "{\n  \"log-level\": \"error\"\n}\n"
	require.NoError(t, os.WriteFile(config, []byte(before), 0o640))
	flags := []string{"-H", "unix://" + p.path("docker.sock"), "--binary", binary, "--daemon-json", config}
	install := append([]string{"runtime", "install"}, flags...)
	uninstall := append([]string{"runtime", "uninstall"}, flags...)

	text := p.ok(install...)
	require.Contains(t, text, binary+": changed")
	require.Contains(t, text, config+": changed")
	require.Contains(t, text, "restart it")
	content, err := os.ReadFile(config)
	require.NoError(t, err)
	require.JSONEq(t, `{"log-level": "error", "experimental": true, "runtimes": {"criu-docker": {"path": "`+binary+`"}}}`, string(content))
	self, err := os.Stat(os.Args[0])
	require.NoError(t, err)
	installed, err := os.Stat(binary)
	require.NoError(t, err)
	require.Equal(t, self.Size(), installed.Size())
	require.Equal(t, os.FileMode(0o755), installed.Mode())

	text = p.ok(install...)
	require.Contains(t, text, binary+": as it was")
	require.Contains(t, text, config+": as it was")

	o := p.call("runtime", "install", "-H", flags[1], "--binary", binary+"-2", "--daemon-json", config)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, binary)
	require.Contains(t, o.stderr, "--binary")

	result := documents[runtimeinstall.Result](t, p.ok(append(uninstall, "--json")...))
	require.Len(t, result, 1)
	require.True(t, result[0].ConfigChanged)
	require.True(t, result[0].BinaryChanged)
	require.True(t, result[0].RestartNeeded)
	content, err = os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, before, string(content), "not a byte differs from before")
	require.NoFileExists(t, binary)

	require.NoError(t, os.WriteFile(config, []byte("{"), 0o640))
	o = p.call(install...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, filepath.Base(config))
	require.Contains(t, o.stderr, "mend it first")
}

func TestVersion(t *testing.T) {
	p := newProgram(t)
	require.Contains(t, p.ok("version"), "criu-docker ")
	require.Contains(t, p.ok("version", "--json"), `"version":`)
}
