package doctor

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

const (
	minEngine = "28.0" // earlier ones attach the network inside create, before a restored container has a pid
	minRunc   = "1.3"  // earlier ones lack CRIU options that snapshots need

	installRuntime = "run criu-docker runtime install"
)

func engineVersion(c Check, info system.Info, address string) Check {
	found := fmt.Sprintf("%s at %s", info.ServerVersion, address)
	switch {
	case !strings.HasPrefix(address, "unix://"):
		return c.fail(found, "use the engine of this machine, by its unix socket: clones are made of files that both share")
	case criu.Older(info.ServerVersion, minEngine):
		return c.fail(found, "install Docker Engine "+minEngine+" or later")
	}
	return c.ok(found)
}

// notDocker reports an engine that only speaks Docker's language.
func notDocker(c Check, version types.Version) (Check, bool) {
	for _, component := range version.Components {
		if strings.HasPrefix(component.Name, "Podman") {
			return c.fail(component.Name+" "+component.Version, "use Docker Engine: Podman's service makes no checkpoints by Docker's API"), true
		}
	}
	return c, false
}

func experimental(info system.Info) Check {
	c := Check{Name: "checkpoint API", Want: "dockerd in experimental mode"}
	if !info.ExperimentalBuild {
		return c.fail("off", installRuntime+` (it sets "experimental": true in daemon.json), then restart dockerd`)
	}
	return c.ok("on")
}

func storageDriver(info system.Info) Check {
	c := Check{Name: "storage driver", Want: "overlay2, or containerd's overlayfs"}
	const others = "an image has another id in an engine with %s: build snapshots on machines that keep images as those do that start from them"
	switch info.Driver {
	case "overlay2":
		c.Notes = []string{fmt.Sprintf(others, "containerd's image store, the default since Docker 29")}
		return c.ok(info.Driver)
	case "overlayfs":
		c.Notes = []string{fmt.Sprintf(others, "overlay2")}
		return c.ok(info.Driver + ", containerd's image store")
	}
	return c.fail(info.Driver, `set "storage-driver": "overlay2" in daemon.json (images have to be pulled again), then restart dockerd`)
}

func userNamespaces(info system.Info) Check {
	c := Check{Name: "user namespaces", Want: "dockerd as root, without userns-remap"}
	switch {
	case hasOption(info, "rootless"):
		return c.fail("rootless", "use a dockerd that runs as root: CRIU can't restore containers of an unprivileged one")
	case hasOption(info, "userns"):
		return c.fail("userns-remap", `remove "userns-remap" from daemon.json, then restart dockerd`)
	}
	return c.ok("none")
}

func cgroups(info system.Info) Check {
	c := Check{Name: "control groups", Want: "version 1 or 2"}
	found := fmt.Sprintf("version %s, driver %s", info.CgroupVersion, info.CgroupDriver)
	if info.CgroupDriver == "none" {
		return c.fail(found, "let dockerd manage control groups (cgroupfs or systemd)")
	}
	if !info.MemoryLimit {
		return c.warn(found+", without limits of memory", "boot with cgroup_enable=memory: containers take as much memory as there is")
	}
	return c.ok(found)
}

// securityModules looks at what confines containers besides their namespaces.
func securityModules(info system.Info) Check {
	c := Check{Name: "security modules", Want: "seccomp; AppArmor or none"}
	var found []string
	for _, name := range []string{"seccomp", "apparmor", "selinux"} {
		if hasOption(info, name) {
			found = append(found, name)
		}
	}
	switch {
	case hasOption(info, "selinux"):
		return c.warn(strings.Join(found, ", "), `clones under SELinux were never tried: try yours, or remove "selinux-enabled" from daemon.json`)
	case !hasOption(info, "seccomp"):
		return c.warn("no seccomp", "use a kernel and a dockerd with seccomp: nothing keeps containers from system calls that they don't need")
	}
	return c.ok(strings.Join(found, ", "))
}

func runtimeRegistered(ctx context.Context, info system.Info) Check {
	c := Check{Name: "runtime " + engine.RuntimeName, Want: "registered in dockerd, with a binary that runs"}
	registered, ok := info.Runtimes[engine.RuntimeName]
	if !ok {
		return c.fail("not registered", installRuntime)
	}
	if registered.Path == "" {
		return c.fail("registered without a path", installRuntime)
	}
	path, err := exec.LookPath(registered.Path)
	if err != nil {
		return c.fail(registered.Path+" is missing or not executable", installRuntime)
	}
	if _, err := versionOf(ctx, path); err != nil {
		return c.fail(err.Error(), installRuntime+" again, and check that runc is installed")
	}
	return c.ok(path)
}

// featuresKey is where dockerd shows what a runtime has told it of itself.
const featuresKey = "org.opencontainers.runtime-spec.features"

// runtimeFeatures: dockerd asks a runtime when it reads its configuration, and trusts one that it could not ask with less than runc.
func runtimeFeatures(info system.Info) Check {
	c := Check{Name: "features of " + engine.RuntimeName, Want: "known to dockerd"}
	if info.Runtimes[engine.RuntimeName].Status[featuresKey] == "" {
		return c.warn("unknown, as when the runtime was installed after dockerd's start: read-only mounts of clones lack noexec, nosuid and nodev of "+
			"their sources", "let dockerd read its configuration again: systemctl reload docker")
	}
	return c.ok("known")
}

// pageServer looks for the page server where the runtime does. The two speak a protocol of their own, so they belong to
// the same version.
func pageServer(ctx context.Context, runtime string) Check {
	c := Check{Name: "page server", Want: "beside the runtime, of the same version"}
	if resolved, err := filepath.EvalSymlinks(runtime); err == nil {
		runtime = resolved
	}
	path := filepath.Join(filepath.Dir(runtime), ociruntime.PagesName)
	if _, err := exec.LookPath(path); err != nil {
		return c.fail(path+" is missing or not executable", installRuntime)
	}
	if _, err := output(ctx, path, "--version"); err != nil {
		return c.fail(err.Error(), installRuntime+" again")
	}
	have, want := buildVersion(path), buildVersion(runtime)
	if have != want {
		return c.warn(fmt.Sprintf("%s is of %s, the runtime of %s", path, have, want), installRuntime+" again")
	}
	return c.ok(path)
}

// buildVersion is what the Go toolchain has noted in a binary; the runtime itself answers for runc.
func buildVersion(path string) string {
	info, err := buildinfo.ReadFile(path)
	if err != nil || info.Main.Version == "" {
		return "an unknown version"
	}
	return info.Main.Version
}

// runcVersion asks the registered runtime, which passes the question on to the runc that it uses.
func runcVersion(ctx context.Context, info system.Info) Check {
	c := Check{Name: "runc", Want: "version " + minRunc + " or later"}
	path := info.Runtimes[engine.RuntimeName].Path
	if _, err := os.Stat(path); err != nil {
		path = "runc"
	}
	version, err := versionOf(ctx, path)
	switch {
	case err != nil:
		return c.fail(err.Error(), "install runc "+minRunc+" or later")
	case criu.Older(version, minRunc):
		return c.fail(version, "install runc "+minRunc+" or later")
	}
	return c.ok(version)
}

// versionOf returns the version that runc, or a runtime in front of it, prints in its first line: "runc version 1.3.6".
func versionOf(ctx context.Context, path string) (string, error) {
	out, err := output(ctx, path, "--version")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(out, "\n")
	fields := strings.Fields(first)
	if len(fields) < 3 || fields[1] != "version" {
		return "", fmt.Errorf("%s --version printed %q, want \"runc version …\"", path, first)
	}
	return fields[2], nil
}

// output runs a program and returns what it prints; errors carry what it said.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
