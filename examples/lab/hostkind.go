package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
)

// hostKind says in what the nodes of a lab differ from the usual ones: users have other hosts than the lab's.
type hostKind struct {
	cgroupV2 bool
	systemd  bool
	vm       bool
	docker   string // a key of dockerVersions, or "" for Debian's
	runc     string // a key of runcVersions, or "" for Debian's
	live     bool   // containers run on while dockerd is restarted
	nomad    string // a key of nomadVersions, or "" for the one that nomad/go.mod pins
	store    string // that of Docker's images: overlay2, which "" is as well, or containerd
}

const (
	overlay2   = "overlay2"
	containerd = "containerd"
)

// dockerVersions are the modules that become dockerd; runcVersions and nomadVersions the newest of each series.
var (
	dockerVersions = map[string]dockerVersion{"29": {"v2.0.0-beta.24", "29.8.0"}}
	runcVersions   = map[string]string{"1.4": "v1.4.4", "1.5": "v1.5.3"}
	nomadVersions  = map[string]string{"1.10": "1.10.5"}
)

// dockerVersion is that of a module, and of the engine that was released from it.
type dockerVersion struct{ module, engine string }

func (k *hostKind) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&k.cgroupV2, "cgroup-v2", false, "nodes see cgroup v2 only, and of it their own part")
	flags.BoolVar(&k.systemd, "systemd", false, "process 1 of the nodes is systemd, which runs Docker as Debian has it, and Nomad; with cgroup v2 only")
	flags.BoolVar(&k.vm, "vm", false, "the node is a virtual machine with Debian's kernel, AppArmor and systemd; without KVM it is twenty times as slow")
	flags.BoolVar(&k.live, "live-restore", false, "containers run on while dockerd is restarted, or replaced by another version")
	flags.StringVar(&k.docker, "docker", "", "Docker Engine of this major version, built from source, in place of Debian's: 29")
	flags.StringVar(&k.runc, "runc", "", "runc of this series, built from source, in place of Debian's: 1.4 or 1.5")
	flags.StringVar(&k.nomad, "nomad-version", "", "Nomad of this series in place of the usual one: 1.10")
	flags.StringVar(&k.store, "image-store", overlay2, "where Docker keeps images: overlay2 or containerd")
}

func (k hostKind) check() error {
	if _, ok := dockerVersions[k.docker]; k.docker != "" && !ok {
		return fmt.Errorf("--docker %s: the lab knows how to build 29", k.docker)
	}
	if _, ok := runcVersions[k.runc]; k.runc != "" && !ok {
		return fmt.Errorf("--runc %s: the lab knows how to build 1.4 and 1.5", k.runc)
	}
	if _, ok := nomadVersions[k.nomad]; k.nomad != "" && !ok {
		return fmt.Errorf("--nomad-version %s: the lab knows how to build 1.10, and has %s", k.nomad, nomadVersion)
	}
	if k.store != "" && k.store != overlay2 && k.store != containerd {
		return fmt.Errorf("--image-store %s: it is overlay2 or containerd", k.store)
	}
	if (k.systemd || k.vm) && (k.docker != "" || k.runc != "" || k.live || k.store == containerd) {
		return errors.New("--systemd, --vm: such nodes have Docker and runc as Debian installs them; leave out --docker, --runc, --live-restore and --image-store")
	}
	return nil
}

// dockerd returns a directory with dockerd and docker-proxy of the version that was asked for, or "" for the distribution's.
func (l *Lab) dockerd(ctx context.Context, k hostKind) (string, error) {
	if k.docker == "" {
		return "", nil
	}
	v := dockerVersions[k.docker]
	return l.built(ctx, "dockerd-"+v.engine, []string{"CGO_ENABLED=0"}, "-ldflags", "-s -w -X github.com/moby/moby/v2/dockerversion.Version="+v.engine,
		"github.com/moby/moby/v2/cmd/dockerd@"+v.module, "github.com/moby/moby/v2/cmd/docker-proxy@"+v.module)
}

// runc returns a directory with runc of the version that was asked for, or "" for the distribution's.
func (l *Lab) runc(ctx context.Context, k hostKind) (string, error) {
	if k.runc == "" {
		return "", nil
	}
	v := runcVersions[k.runc]
	if err := needPackages(ctx, "gcc", "libc6-dev", "libseccomp-dev", "pkg-config"); err != nil {
		return "", err
	}
	return l.built(ctx, "runc-"+v, []string{"CGO_ENABLED=1"}, "-tags", "seccomp", "github.com/opencontainers/runc@"+v)
}

// built returns the cache's directory of that name, with what go install makes of the arguments.
func (l *Lab) built(ctx context.Context, name string, env []string, args ...string) (string, error) {
	return l.cached(ctx, name, func(tmp string) error {
		slog.Info("building, once for this version; takes some minutes", "what", name, "dir", tmp)
		start := time.Now()
		cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", "10", "go", "install", "-trimpath"}, args...)...)
		cmd.Env = append(append(os.Environ(), "GOBIN="+tmp, "GOFLAGS="), env...)
		cmd.Dir = "/" // the versions are the arguments', not those of this module
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, tail(out))
		}
		slog.Info("built", "what", name, "took", time.Since(start).Round(time.Second))
		return nil
	})
}

// useRunc puts the runc of a directory before the distribution's; with "" it sees to it that there is none.
func (n *Node) useRunc(dir string) error {
	if dir == "" {
		return n.unlink(runcPath)
	}
	return n.link(hostRoot+filepath.Join(dir, "runc"), runcPath)
}

const runcPath = "/usr/local/sbin/runc"
