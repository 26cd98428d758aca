package doctor

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/system"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
)

func TestRunOnFitMachine(t *testing.T) {
	checks := Run(context.Background(), Options{CacheDir: t.TempDir()})
	names := map[string]Check{}
	for _, c := range checks {
		t.Logf("%-5s %-25s %s", c.Status, c.Name, c.Found)
		require.NotContains(t, names, c.Name, "names are unique")
		require.NotEmpty(t, c.Found, c.Name)
		require.NotEmpty(t, c.Want, c.Name)
		if c.Status != OK {
			require.NotEmpty(t, c.Remedy, c.Name)
		}
		names[c.Name] = c
	}
	require.NoError(t, Err(checks))
	require.Contains(t, names, "engine's capabilities")
	require.Equal(t, OK, names["docker engine"].Status)
	require.Equal(t, OK, names["CRIU"].Status)
	require.Equal(t, OK, names["runtime criu-docker"].Status)
	require.NotEqual(t, Fail, names["page server"].Status)
}

func TestRunWithoutEngine(t *testing.T) {
	checks := Run(context.Background(), Options{Host: "unix://" + filepath.Join(t.TempDir(), "docker.sock")})
	last := checks[len(checks)-1]
	require.Equal(t, "docker engine", last.Name)
	require.Equal(t, Fail, last.Status)
	err := Err(checks)
	require.ErrorContains(t, err, "not fit")
	require.ErrorContains(t, err, last.Remedy)
}

func TestEngineChecks(t *testing.T) {
	good := func() system.Info {
		return system.Info{
			ServerVersion: "28.5.2", ExperimentalBuild: true, Driver: "overlay2", CgroupDriver: "systemd", CgroupVersion: "2", MemoryLimit: true,
			SecurityOptions: []string{"name=seccomp,profile=builtin", "name=cgroupns"},
		}
	}
	version := func(address string) func(system.Info) Check {
		return func(info system.Info) Check { return engineVersion(Check{Name: "docker engine"}, info, address) }
	}
	registered := func(info system.Info) Check { return runtimeRegistered(context.Background(), info) }
	runc := func(info system.Info) Check { return runcVersion(context.Background(), info) }
	setRuntime := func(path string) func(*system.Info) {
		return func(i *system.Info) {
			i.Runtimes = map[string]system.RuntimeWithStatus{engine.RuntimeName: {Runtime: system.Runtime{Path: path}}}
		}
	}
	setFeatures := func(status map[string]string) func(*system.Info) {
		return func(i *system.Info) {
			i.Runtimes = map[string]system.RuntimeWithStatus{engine.RuntimeName: {Status: status}}
		}
	}
	script := func(name, body string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755))
		return path
	}
	socket := "unix:///var/run/docker.sock"
	for name, test := range map[string]struct {
		check  func(system.Info) Check
		change func(*system.Info)
		want   Status
		found  string
	}{
		"version":            {version(socket), func(*system.Info) {}, OK, "28.5.2 at " + socket},
		"old engine":         {version(socket), func(i *system.Info) { i.ServerVersion = "27.5.1" }, Fail, "27.5.1"},
		"Debian's engine":    {version(socket), func(i *system.Info) { i.ServerVersion = "28.0.0+dfsg4" }, OK, "28.0.0"},
		"remote engine":      {version("tcp://10.0.0.1:2375"), func(*system.Info) {}, Fail, "tcp://"},
		"experimental":       {experimental, func(*system.Info) {}, OK, "on"},
		"not experimental":   {experimental, func(i *system.Info) { i.ExperimentalBuild = false }, Fail, "off"},
		"overlay2":           {storageDriver, func(*system.Info) {}, OK, "overlay2"},
		"containerd's":       {storageDriver, func(i *system.Info) { i.Driver = "overlayfs" }, OK, "overlayfs"},
		"btrfs":              {storageDriver, func(i *system.Info) { i.Driver = "btrfs" }, Fail, "btrfs"},
		"no user namespace":  {userNamespaces, func(*system.Info) {}, OK, "none"},
		"userns-remap":       {userNamespaces, func(i *system.Info) { i.SecurityOptions = append(i.SecurityOptions, "name=userns") }, Fail, "userns-remap"},
		"rootless":           {userNamespaces, func(i *system.Info) { i.SecurityOptions = append(i.SecurityOptions, "name=rootless") }, Fail, "rootless"},
		"cgroups":            {cgroups, func(*system.Info) {}, OK, "version 2, driver systemd"},
		"no memory limits":   {cgroups, func(i *system.Info) { i.MemoryLimit = false }, Warn, "without limits of memory"},
		"seccomp":            {securityModules, func(*system.Info) {}, OK, "seccomp"},
		"AppArmor":           {securityModules, func(i *system.Info) { i.SecurityOptions = append(i.SecurityOptions, "name=apparmor") }, OK, "seccomp, apparmor"},
		"SELinux":            {securityModules, func(i *system.Info) { i.SecurityOptions = append(i.SecurityOptions, "name=selinux") }, Warn, "selinux"},
		"no seccomp":         {securityModules, func(i *system.Info) { i.SecurityOptions = nil }, Warn, "no seccomp"},
		"no cgroups":         {cgroups, func(i *system.Info) { i.CgroupDriver = "none" }, Fail, "none"},
		"runtime missing":    {registered, func(*system.Info) {}, Fail, "not registered"},
		"runtime by shim":    {registered, setRuntime(""), Fail, "without a path"},
		"runtime's binary":   {registered, setRuntime(script("r", "echo runc version 1.3.6")), OK, "/r"},
		"binary gone":        {registered, setRuntime("/nowhere/criu-docker-runc"), Fail, "missing"},
		"binary broken":      {registered, setRuntime(script("b", "echo no runc >&2; exit 127")), Fail, "no runc"},
		"binary is another":  {registered, setRuntime(script("a", "echo hello")), Fail, "hello"},
		"features known":     {runtimeFeatures, setFeatures(map[string]string{featuresKey: "{}"}), OK, "known"},
		"features unknown":   {runtimeFeatures, setFeatures(nil), Warn, "lack noexec"},
		"runc":               {runc, setRuntime(script("new", "echo runc version 1.3.6+ds1; echo spec: 1.2")), OK, "1.3.6+ds1"},
		"old runc":           {runc, setRuntime(script("old", "echo runc version 1.1.12")), Fail, "1.1.12"},
		"runc without ours":  {runc, func(*system.Info) {}, OK, "."},
		"runc fails to tell": {runc, setRuntime(script("fails", "exit 1")), Fail, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			info := good()
			test.change(&info)
			c := test.check(info)
			require.Equal(t, test.want, c.Status, c)
			require.Contains(t, c.Found, test.found)
			require.Equal(t, c.Status == OK, c.Remedy == "")
		})
	}
}

func TestPageServer(t *testing.T) {
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	install := func(t *testing.T, dir, name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o755))
	}
	for name, test := range map[string]struct {
		pages []byte
		want  Status
		found string
	}{
		"beside the runtime": {[]byte("#!/bin/sh\necho criu-docker dev\n"), OK, "/criu-docker-pages"},
		"missing":            {nil, Fail, "/criu-docker-pages is missing"},
		"broken":             {[]byte("#!/bin/sh\necho no library >&2; exit 127\n"), Fail, "no library"},
		"of another version": {self, Warn, "the runtime of an unknown version"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, link := t.TempDir(), filepath.Join(t.TempDir(), "criu-docker-runc")
			install(t, dir, "criu-docker-runc", []byte("#!/bin/sh\necho runc version 1.3.6\n"))
			require.NoError(t, os.Symlink(filepath.Join(dir, "criu-docker-runc"), link))
			if test.pages != nil {
				install(t, dir, "criu-docker-pages", test.pages)
			}
			for _, runtime := range []string{filepath.Join(dir, "criu-docker-runc"), link} {
				c := pageServer(context.Background(), runtime)
				require.Equal(t, test.want, c.Status, c)
				require.Contains(t, c.Found, test.found)
				require.Equal(t, c.Status == OK, c.Remedy == "")
			}
		})
	}
}

// A driver's fingerprint asks every half minute.
func TestCRIUIsCheckedOnce(t *testing.T) {
	dir := t.TempDir()
	calls := filepath.Join(dir, "calls")
	install := func(version string) {
		script := "#!/bin/sh\necho \"$*\" >> " + calls + "\ncase $* in *version*) echo Version: " + version + ";; esac\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), []byte(script), 0o755))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "criu")))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	checks := func() int {
		log, err := os.ReadFile(calls)
		require.NoError(t, err)
		return strings.Count(string(log), "check")
	}
	for i, version := range []string{"4.2.1", "4.3"} {
		install(version)
		for range 3 {
			c := checkCRIU(context.Background())
			require.Equal(t, OK, c.Status, c)
			require.Contains(t, c.Found, version)
		}
		require.Equal(t, i+1, checks())
	}
	install("3.17")
	require.Equal(t, Fail, checkCRIU(context.Background()).Status)
}

func TestInstallCRIUOn(t *testing.T) {
	for release, want := range map[string]string{
		"PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nID=debian\n":                             "apt install criu",
		"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nID=debian\n":        "Debian GNU/Linux 13 (trixie) has an older one or none; build it",
		"PRETTY_NAME=\"Ubuntu 26.04 LTS\"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"26.04\"\n": "Ubuntu 26.04 LTS has an older one or none; build it",
		"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n":                                      "dnf install criu",
		"ID=arch\n": "pacman -S criu",
		"":          "https://criu.org/Installation",
	} {
		require.Contains(t, installCRIUOn(release), want)
	}
}

// Podman speaks Docker's language, but for checkpoints.
func TestPodmanIsNotSupported(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "podman.sock")
	service := exec.Command("podman", "system", "service", "--time=0", "unix://"+socket)
	require.NoError(t, service.Start(), "these tests run inside a node of the lab: make test")
	t.Cleanup(func() {
		require.NoError(t, service.Process.Kill())
		_ = service.Wait()
	})
	require.Eventually(t, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	checks := Run(context.Background(), Options{Host: "unix://" + socket})
	last := checks[len(checks)-1]
	require.Equal(t, Fail, last.Status)
	require.Contains(t, last.Found, "Podman Engine")
	require.Contains(t, last.Remedy, "use Docker Engine")
}

// The test's binary answers as a page server does.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		return
	}
	if socket := os.Getenv(listenEnv); socket != "" {
		if err := listenAsEngine(socket); err != nil {
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func TestCacheDir(t *testing.T) {
	dir := t.TempDir()
	require.NotEqual(t, Fail, cacheDir(filepath.Join(dir, "not", "yet")).Status)
	require.NoDirExists(t, filepath.Join(dir, "not"), "it only looks")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, bad := range []string{file, filepath.Join(file, "below"), "/proc/1"} {
		c := cacheDir(bad)
		require.Equal(t, Fail, c.Status, c)
		require.Contains(t, c.Remedy, "--cache")
	}
	require.Equal(t, Warn, cacheDir("/dev/shm").Status)
}

func TestCheckJSON(t *testing.T) {
	b, err := json.Marshal(Check{Name: "kernel", Want: "5.13 or later"}.fail("4.19", "boot a newer kernel"))
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"kernel","status":"fail","found":"4.19","want":"5.13 or later","remedy":"boot a newer kernel"}`, string(b))
}

// TestFaultsOfCRIU: what the installed version gets wrong by itself is told, and is no failure.
func TestFaultsOfCRIU(t *testing.T) {
	for version, notes := range map[string]int{"4.2": 2, "4.2.1": 2, "4.2.2": 0, "4.3": 0} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "criu"), []byte("#!/bin/sh\necho Version: "+version+"\n"), 0o755))
		t.Setenv("PATH", dir)
		c := checkCRIU(context.Background())
		require.Equal(t, OK, c.Status, c)
		require.Len(t, c.Notes, notes, version)
	}
}
