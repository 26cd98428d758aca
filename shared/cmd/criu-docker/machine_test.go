package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/doctor"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
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
	binary, pages, config := p.path("bin", "criu-docker-runc"), p.path("bin", "criu-docker-pages"), p.path("daemon.json")
	before := "{\n  \"log-level\": \"error\"\n}\n"
	require.NoError(t, os.WriteFile(config, []byte(before), 0o640))
	flags := []string{"-H", "unix://" + p.path("docker.sock"), "--binary", binary, "--daemon-json", config}
	install := append([]string{"runtime", "install"}, flags...)
	uninstall := append([]string{"runtime", "uninstall"}, flags...)

	self, err := filepath.EvalSymlinks(os.Args[0])
	require.NoError(t, err)
	runtime := filepath.Join(filepath.Dir(self), "criu-docker-runc")
	o := p.call(install...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, runtime)
	require.Contains(t, o.stderr, "make build")
	require.NoError(t, os.WriteFile(runtime, []byte("the runtime"), 0o700))
	t.Cleanup(func() { require.NoError(t, os.Remove(runtime)) })

	text := p.ok(install...)
	require.Contains(t, text, binary+": changed")
	require.Contains(t, text, pages+": changed")
	require.Contains(t, text, config+": changed")
	require.Contains(t, text, "restart it")
	content, err := os.ReadFile(config)
	require.NoError(t, err)
	require.JSONEq(t, `{"log-level": "error", "experimental": true, "runtimes": {"criu-docker": {"path": "`+binary+`"}}}`, string(content))
	for source, target := range map[string]string{runtime: binary, self: pages} {
		want, err := os.Stat(source)
		require.NoError(t, err)
		installed, err := os.Stat(target)
		require.NoError(t, err)
		require.Equal(t, want.Size(), installed.Size())
		require.Equal(t, os.FileMode(0o755), installed.Mode())
	}

	text = p.ok(install...)
	require.Contains(t, text, binary+": as it was")
	require.Contains(t, text, pages+": as it was")
	require.Contains(t, text, config+": as it was")

	o = p.call("runtime", "install", "-H", flags[1], "--binary", binary+"-2", "--daemon-json", config)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, binary)
	require.Contains(t, o.stderr, "--binary")

	result := documents[runtimeinstall.Result](t, p.ok(append(uninstall, "--json")...))
	require.Len(t, result, 1)
	require.True(t, result[0].ConfigChanged)
	require.True(t, result[0].BinaryChanged)
	require.Equal(t, pages, result[0].Pages)
	require.True(t, result[0].PagesChanged)
	require.True(t, result[0].RestartNeeded)
	content, err = os.ReadFile(config)
	require.NoError(t, err)
	require.Equal(t, before, string(content), "not a byte differs from before")
	require.NoFileExists(t, binary)
	require.NoFileExists(t, pages)

	require.NoError(t, os.WriteFile(config, []byte("{"), 0o640))
	o = p.call(install...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, filepath.Base(config))
	require.Contains(t, o.stderr, "correct it first")
}

func TestVersion(t *testing.T) {
	p := newProgram(t)
	require.Contains(t, p.ok("version"), "criu-docker ")
	require.Contains(t, p.ok("version", "--json"), `"version":`)

	pages := p.command("--version")
	pages.Args[0] = ociruntime.PagesName
	out, err := pages.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "criu-docker ", "a page server can be asked whether it runs")
}
