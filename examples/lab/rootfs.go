package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// recipe says what a root file system is made of. Everything that changes the outcome is in it, so that its hash can
// name the outcome.
type recipe struct {
	Suite    string   `json:"suite"`
	Mirror   string   `json:"mirror"`
	Packages []string `json:"packages"`
	Setup    string   `json:"setup"` // shell script that runs inside, after the packages
}

// nodeRecipe is Debian forky, the first release whose CRIU restores sockets on current kernels and whose Docker has
// the checkpoint API working with it.
func nodeRecipe() recipe {
	return recipe{
		Suite:  "forky",
		Mirror: mirror(),
		Packages: []string{
			"docker.io", "docker-cli", "containerd", "runc", "criu", "podman", "crun", "conmon", "netavark",
			"iptables", "nftables", "iproute2", "containernetworking-plugins", "procps", "curl", "jq", "util-linux",
			"ca-certificates", "busybox-static", "zstd", "kmod", "iputils-ping", "less", "file", "systemd-sysv", "dbus",
		},
	}
}

func mirror() string {
	if m := os.Getenv("LAB_MIRROR"); m != "" {
		return m
	}
	return "http://deb.debian.org/debian"
}

// keyed is the recipe without the mirror: another mirror gives the same packages.
func (r recipe) keyed() recipe {
	r.Mirror = ""
	return r
}

func (r recipe) key() string { return hashOf(r.keyed()) }

// rootfs returns the directory of the node's root file system and builds it first if this machine has none for the
// present recipe.
func (l *Lab) rootfs(ctx context.Context) (string, error) {
	r := nodeRecipe()
	dir, err := l.cached(ctx, "rootfs-"+r.Suite+"-"+r.key(), func(tmp string) error {
		slog.Info("building the node's root file system, once for this recipe", "suite", r.Suite, "dir", tmp)
		return debootstrap(ctx, r, tmp)
	})
	if err != nil {
		return "", fmt.Errorf("root file system of the nodes: %w", err)
	}
	return dir, nil
}

// debootstrap fills dir with a Debian system. The work happens in a mount namespace of its own, so that whatever
// package scripts mount is gone when it ends.
func debootstrap(ctx context.Context, r recipe, dir string) error {
	if err := needPackages(ctx, "debootstrap"); err != nil {
		return err
	}
	args := []string{"--mount", "--propagation", "private", "--", "debootstrap", "--variant=minbase"}
	if len(r.Packages) > 0 {
		args = append(args, "--include="+strings.Join(r.Packages, ","))
	}
	args = append(args, r.Suite, dir, r.Mirror)
	if _, err := os.Stat(filepath.Join("/usr/share/debootstrap/scripts", r.Suite)); err != nil {
		// An older debootstrap doesn't know the suite's name; the script of unstable builds every recent suite.
		args = append(args, "sid")
	}
	start := time.Now()
	if err := unshareLogged(ctx, dir+".log", args...); err != nil {
		return fmt.Errorf("debootstrap %s from %s (set LAB_MIRROR to use another mirror): %w", r.Suite, r.Mirror, err)
	}
	if r.Setup != "" {
		if err := unshareLogged(ctx, dir+".log", "--mount", "--pid", "--fork", "--propagation", "private", "--",
			"chroot", dir, "/bin/sh", "-ec", "mount -t proc proc /proc\n"+r.Setup); err != nil {
			return fmt.Errorf("set up %s: %w", dir, err)
		}
	}
	versions, err := exec.CommandContext(ctx, "chroot", dir, "dpkg-query", "-W", "-f", "${Package} ${Version}\n").Output()
	if err != nil {
		return fmt.Errorf("list the packages of %s: %w", dir, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc", "lab-packages"), versions, 0o644); err != nil {
		return fmt.Errorf("record package versions: %w", err)
	}
	if err := dropPackageCaches(dir); err != nil {
		return err
	}
	slog.Info("built", "suite", r.Suite, "dir", dir, "took", time.Since(start).Round(time.Second))
	return os.Remove(dir + ".log")
}

func dropPackageCaches(dir string) error {
	for _, pattern := range []string{"var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_Packages", "var/cache/apt/*.bin"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("package caches: %w", err)
		}
		for _, f := range files {
			if err := os.Remove(f); err != nil {
				return fmt.Errorf("package caches: %w", err)
			}
		}
	}
	return nil
}

// needPackages installs packages of the host's distribution that the host lacks.
func needPackages(ctx context.Context, names ...string) error {
	// It lists, and fails, if one of them is not even known.
	out, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f", "${db:Status-Status}\n"}, names...)...).Output()
	if err == nil && strings.Count(string(out), "installed\n") == len(names) && !strings.Contains(string(out), "not-installed") {
		return nil
	}
	slog.Info("installing on the host", "packages", names)
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-y", "-q", "--no-install-recommends"}, names...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s is missing and apt-get %s failed (install it by hand): %w\n%s", strings.Join(names, ", "), args[0], err, tail(out))
		}
	}
	return nil
}

// unshareLogged runs a command that talks a lot in namespaces of its own, keeps all of it in a file and shows the end of it on failure.
func unshareLogged(ctx context.Context, logFile string, args ...string) error {
	f, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("log of unshare: %w", err)
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(logFile)
		return fmt.Errorf("unshare: %w; log %s ends with:\n%s", err, logFile, tail(out))
	}
	return nil
}

// tail returns the last lines of a program's output, enough to see why it failed.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) > 15 {
		lines = lines[len(lines)-15:]
	}
	return strings.Join(lines, "\n")
}
