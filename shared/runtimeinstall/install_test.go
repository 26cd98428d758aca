package runtimeinstall

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/engine"
)

const daemonConfig = `{
    "runtimes": {
        "other": {"path": "/usr/bin/runc"}
    },
    "log-level": "error"
}
`

func TestInstallIntoRunningDaemon(t *testing.T) {
	ctx := context.Background()
	d := startDaemon(t)
	opts := Options{
		Host: d.host, Source: fakeBinary(t, "runtime 1"), PagesSource: fakeBinary(t, "pages 1"),
		Binary: filepath.Join(d.dir, "bin", "criu-docker-runc"),
	}
	pages := filepath.Join(d.dir, "bin", "criu-docker-pages")

	got, err := Install(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, Result{
		DaemonJSON: d.config, Binary: opts.Binary, Pages: pages,
		ConfigChanged: true, BinaryChanged: true, PagesChanged: true, Reloaded: true, RestartNeeded: true,
	}, got, "the daemon's own --config-file was found, and experimental mode needs a restart")
	require.Equal(t, opts.Binary, d.runtimes(t)[engine.RuntimeName])
	require.Equal(t, "/usr/bin/runc", d.runtimes(t)["other"])
	requireProgram(t, opts.Binary, "runtime 1")
	requireProgram(t, pages, "pages 1")
	config, err := os.Stat(d.config)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), config.Mode())

	got, err = Install(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, Result{DaemonJSON: d.config, Binary: opts.Binary, Pages: pages, RestartNeeded: true}, got, "twice changes nothing")

	require.NoError(t, os.WriteFile(opts.Source, []byte("runtime 2"), 0o755))
	got, err = Install(ctx, opts)
	require.NoError(t, err)
	require.True(t, got.BinaryChanged)
	require.False(t, got.PagesChanged)
	require.False(t, got.ConfigChanged)
	requireProgram(t, opts.Binary, "runtime 2")

	require.NoError(t, os.WriteFile(opts.PagesSource, []byte("pages 2"), 0o755))
	got, err = Install(ctx, opts)
	require.NoError(t, err)
	require.False(t, got.BinaryChanged)
	require.True(t, got.PagesChanged)
	requireProgram(t, pages, "pages 2")

	d.stop(t)
	d.start(t)
	got, err = Install(ctx, opts)
	require.NoError(t, err)
	require.False(t, got.RestartNeeded, "it has been restarted")

	id := d.createContainer(t)
	_, err = Uninstall(ctx, opts)
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, id[:12])
	require.Equal(t, opts.Binary, d.runtimes(t)[engine.RuntimeName])
	require.NoError(t, d.engine.Client.ContainerRemove(ctx, id, container.RemoveOptions{}))

	got, err = Uninstall(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, Result{
		DaemonJSON: d.config, Binary: opts.Binary, Pages: pages,
		ConfigChanged: true, BinaryChanged: true, PagesChanged: true, Reloaded: true, RestartNeeded: true,
	}, got)
	require.NotContains(t, d.runtimes(t), engine.RuntimeName)
	content, err := os.ReadFile(d.config)
	require.NoError(t, err)
	require.Equal(t, daemonConfig, string(content), "not a byte differs from before")
	require.NoFileExists(t, opts.Binary)
	require.NoFileExists(t, pages)
	require.NoFileExists(t, d.config+backupSuffix)

	got, err = Uninstall(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, Result{DaemonJSON: d.config, Binary: opts.Binary, Pages: pages, RestartNeeded: true}, got, "twice changes nothing")
}

func TestInstallIntoExperimentalDaemon(t *testing.T) {
	ctx := context.Background()
	d := startDaemon(t, "--experimental", "--log-level=error")
	opts := Options{Host: d.host, Source: fakeBinary(t, "runtime"), Binary: filepath.Join(d.dir, "criu-docker-runc")}
	got, err := Install(ctx, opts)
	require.NoError(t, err)
	require.False(t, got.RestartNeeded, "the flag does it, and dockerd takes no setting twice")
	content, err := os.ReadFile(d.config)
	require.NoError(t, err)
	require.NotContains(t, string(content), "experimental")

	running, err := findDaemon(ctx, d.host)
	require.NoError(t, err)
	defer running.close()
	for _, bad := range []string{`{"experimental": true}`, `{"no-such-setting": 1}`} {
		require.ErrorIs(t, running.validate(ctx, []byte(bad)), ErrConflict, bad)
	}
	running.limit = time.Nanosecond
	err = running.validate(ctx, []byte("{}"))
	require.NotErrorIs(t, err, ErrConflict, "it has said nothing yet")
	require.ErrorContains(t, err, "dockerd --validate has not finished checking the changed configuration within 1ns: nothing was changed; try again")
	running.limit = 0
	_, err = Uninstall(ctx, opts)
	require.NoError(t, err)
	content, err = os.ReadFile(d.config)
	require.NoError(t, err)
	require.Equal(t, "{}", string(content))
}

func TestInstallWithoutDaemon(t *testing.T) {
	ctx := context.Background()
	for name, before := range map[string]string{
		"no file":           "",
		"empty object":      "{}\n",
		"not experimental":  "{\n  \"experimental\": false\n}\n",
		"experimental":      "{\"experimental\":true,\"debug\":false}",
		"with runtimes":     "{\n\t\"runtimes\": {\n\t\t\"a\": {\n\t\t\t\"path\": \"a\"\n\t\t}\n\t}\n}\n",
		"compact and empty": "{\"runtimes\":{}}",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target, link := filepath.Join(dir, "real.json"), filepath.Join(dir, "daemon.json")
			if before != "" {
				require.NoError(t, os.WriteFile(target, []byte(before), 0o604))
				require.NoError(t, os.Symlink(target, link))
			}
			opts := Options{
				Host: "unix://" + filepath.Join(dir, "none.sock"), DaemonJSON: link,
				Source: fakeBinary(t, "runtime"), Binary: filepath.Join(dir, "criu-docker-runc"),
			}
			got, err := Install(ctx, opts)
			require.NoError(t, err)
			require.True(t, got.ConfigChanged)
			require.True(t, got.RestartNeeded)
			require.False(t, got.Reloaded)
			file, err := readConfig(link)
			require.NoError(t, err)
			require.Equal(t, `{"path":"`+opts.Binary+`"}`, file.doc.get("runtimes", "criu-docker"))
			require.Equal(t, "true", file.doc.get("experimental"))

			_, err = Uninstall(ctx, opts)
			require.NoError(t, err)
			if before == "" {
				require.NoFileExists(t, link)
				return
			}
			content, err := os.ReadFile(target)
			require.NoError(t, err)
			require.Equal(t, before, string(content))
			info, err := os.Lstat(link)
			require.NoError(t, err)
			require.NotZero(t, info.Mode()&os.ModeSymlink, "the link is still one")
			info, err = os.Stat(target)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o604), info.Mode())
		})
	}
}

func TestInstallLeavesBrokenConfigAlone(t *testing.T) {
	for content, want := range map[string]string{
		"{ // the proxy\n}": "comments",
		"{\"runtimes\": [":  "invalid JSON",
		"{\"runtimes\": {\"criu-docker\": {\"path\": \"/elsewhere\"}}}": "/elsewhere",
		"{\"runtimes\": {\"criu-docker\": 7}}":                          "criu-docker",
		"{\"runtimes\": 7}":                                             "want an object",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "daemon.json")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		opts := Options{
			Host: "unix://" + filepath.Join(dir, "none.sock"), DaemonJSON: path,
			Source: fakeBinary(t, "runtime"), Binary: filepath.Join(dir, "criu-docker-runc"),
		}
		_, err := Install(context.Background(), opts)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, path)
		now, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(now))
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 1, "neither backup nor binary")
	}
}

// The runtime that is where it is to be already is not copied onto itself, and a page server that is a link to the
// criu-docker beside it is left as that.
func TestInstallInPlace(t *testing.T) {
	dir := t.TempDir()
	opts := Options{
		Host: "unix://" + filepath.Join(dir, "none.sock"), DaemonJSON: filepath.Join(dir, "daemon.json"),
		Source: filepath.Join(dir, "criu-docker-runc"), PagesSource: filepath.Join(dir, "criu-docker"),
	}
	opts.Binary = opts.Source
	pages := filepath.Join(dir, "criu-docker-pages")
	require.NoError(t, os.WriteFile(opts.Source, []byte("runtime"), 0o755))
	require.NoError(t, os.WriteFile(opts.PagesSource, []byte("pages"), 0o755))
	require.NoError(t, os.Symlink("criu-docker", pages))
	got, err := Install(context.Background(), opts)
	require.NoError(t, err)
	require.True(t, got.ConfigChanged)
	require.False(t, got.BinaryChanged)
	require.False(t, got.PagesChanged)

	_, err = Uninstall(context.Background(), opts)
	require.NoError(t, err)
	require.NoFileExists(t, opts.Source)
	_, err = os.Lstat(pages)
	require.ErrorIs(t, err, os.ErrNotExist)
	requireProgram(t, opts.PagesSource, "pages")
}

func TestInstallWithoutSource(t *testing.T) {
	dir := t.TempDir()
	opts := Options{
		Host: "unix://" + filepath.Join(dir, "none.sock"), DaemonJSON: filepath.Join(dir, "daemon.json"),
		Source: "/no/such/criu-docker-runc", Binary: filepath.Join(dir, "criu-docker-runc"),
	}
	_, err := Install(context.Background(), opts)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, opts.Source)
	require.ErrorContains(t, err, "make build")
	opts.Source, opts.PagesSource = fakeBinary(t, "runtime"), "/no/such/criu-docker"
	_, err = Install(context.Background(), opts)
	require.ErrorContains(t, err, opts.PagesSource)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is changed")
	_, err = Uninstall(context.Background(), opts)
	require.NoError(t, err, "what was installed can go all the same")
}

func requireProgram(t *testing.T, path, content string) {
	t.Helper()
	have, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, content, string(have))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode())
}

func fakeBinary(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "criu-docker")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o755))
	return path
}

// testDaemon is a dockerd of the test's own, beside the one that the other tests share.
type testDaemon struct {
	dir, host, config string
	flags             []string
	cmd               *exec.Cmd
	log               bytes.Buffer
	engine            *engine.Engine
}

// startDaemon starts a dockerd; with flags its configuration file is empty.
func startDaemon(t *testing.T, flags ...string) *testDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "dockerd-") // short, for the sake of its sockets' names
	require.NoError(t, err)
	d := &testDaemon{dir: dir, host: "unix://" + dir + "/docker.sock", config: dir + "/daemon.json", flags: flags}
	t.Cleanup(func() {
		// dockerd leaves the mounts of its state directory behind.
		for _, mounted := range []string{"/exec/netns/default", "/exec/netns", "/data"} {
			_ = unix.Unmount(dir+mounted, unix.MNT_DETACH)
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	content := daemonConfig
	if len(flags) > 0 {
		content = "{}"
	}
	require.NoError(t, os.WriteFile(d.config, []byte(content), 0o640))
	d.start(t)
	t.Cleanup(func() { d.stop(t) })
	return d
}

func (d *testDaemon) start(t *testing.T) {
	t.Helper()
	d.cmd = exec.Command("dockerd", append([]string{
		"--host=" + d.host, "--data-root=" + d.dir + "/data", "--exec-root=" + d.dir + "/exec", "--pidfile=" + d.dir + "/pid",
		"--config-file=" + d.config, "--bridge=none", "--iptables=false", "--ip6tables=false",
	}, d.flags...)...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	// Without a bridge dockerd removes docker0 from its network namespace, so it gets one of its own.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Cloneflags: syscall.CLONE_NEWNET}
	require.NoError(t, d.cmd.Start())
	require.Eventually(t, func() bool {
		eng, err := engine.Connect(context.Background(), d.host)
		d.engine = eng
		return err == nil
	}, time.Minute, 100*time.Millisecond, "dockerd does not answer")
}

func (d *testDaemon) stop(t *testing.T) {
	t.Helper()
	if d.cmd.ProcessState != nil {
		return
	}
	d.engine.Close()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	_ = d.cmd.Wait() // its exit code says nothing; its log does
	if t.Failed() {
		t.Logf("dockerd: %s", d.log.String())
	}
}

func (d *testDaemon) runtimes(t *testing.T) map[string]string {
	t.Helper()
	info, err := d.engine.Client.Info(context.Background())
	require.NoError(t, err)
	paths := map[string]string{}
	for name, r := range info.Runtimes {
		paths[name] = r.Path
	}
	return paths
}

// createContainer makes a container of the runtime, from an image of nothing.
func (d *testDaemon) createContainer(t *testing.T) string {
	t.Helper()
	ctx := context.Background()
	out, err := exec.Command("sh", "-c", "tar c --files-from /dev/null | docker --host "+d.host+" import - nothing").CombinedOutput()
	require.NoError(t, err, string(out))
	created, err := d.engine.Client.ContainerCreate(ctx, &container.Config{Image: "nothing", Cmd: []string{"/none"}},
		&container.HostConfig{Runtime: engine.RuntimeName, NetworkMode: "none"}, nil, nil, "")
	require.NoError(t, err)
	return created.ID
}

func TestPackagedBinariesStay(t *testing.T) {
	ctx := context.Background()
	place := t.TempDir()
	saved := packageDir
	packageDir = place
	t.Cleanup(func() { packageDir = saved })
	config := filepath.Join(t.TempDir(), "daemon.json")
	opts := Options{
		Host: "unix:///nonexistent.sock", Source: fakeBinary(t, "another runtime"), PagesSource: fakeBinary(t, "another page server"),
		Binary: filepath.Join(place, "criu-docker-runc"), DaemonJSON: config,
	}
	_, err := Install(ctx, opts)
	require.ErrorIs(t, err, os.ErrNotExist, "only the package manager writes there")
	require.ErrorContains(t, err, "install the package criu-docker")
	require.NoFileExists(t, config)

	pages := filepath.Join(place, "criu-docker-pages")
	for _, file := range []string{opts.Binary, pages} {
		require.NoError(t, os.WriteFile(file, []byte("packaged"), 0o755))
	}
	got, err := Install(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, Result{DaemonJSON: config, Binary: opts.Binary, Pages: pages, ConfigChanged: true, RestartNeeded: true}, got)
	content, err := os.ReadFile(config)
	require.NoError(t, err)
	require.Contains(t, string(content), opts.Binary)

	got, err = Uninstall(ctx, opts)
	require.NoError(t, err)
	require.Equal(t, Result{DaemonJSON: config, Binary: opts.Binary, Pages: pages, ConfigChanged: true, RestartNeeded: true}, got)
	require.NoFileExists(t, config, "there was none before")
	for _, file := range []string{opts.Binary, pages} {
		requireProgram(t, file, "packaged")
	}
}
