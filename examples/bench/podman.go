package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// podman is Podman with a storage of its own, so that nothing of it stays and nothing that is there is touched.
type podman struct{ dir string }

func newPodman(dir string) (*podman, error) {
	for _, d := range []string{"root", "run", "networks", "exports"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	return &podman{dir}, nil
}

// load copies an image from `docker save`.
func (p *podman) load(ctx context.Context, archive io.Reader) error {
	cmd := p.command(ctx, "load")
	cmd.Stdin = archive
	return execute(cmd)
}

// checkpoint boots an app, freezes it when it answers, and keeps exports: one as small as Podman makes them, whose size
// is returned, and, for every number of CPUs, one without compression, which is the fastest to restore.
func (p *podman) checkpoint(ctx context.Context, a app, cpus []int) (size int64, err error) {
	name := "donor-" + a.name
	addr, err := freeAddress(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.remove(ctx, name)) }()
	if err := execute(p.command(ctx, "run", "-d", "--name", name, "-p", fmt.Sprintf("%s:%d", addr, a.port), a.image)); err != nil {
		return 0, err
	}
	if err := firstAnswer(ctx, "http://"+addr+a.path); err != nil {
		return 0, err
	}
	pid, err := p.pid(ctx, name)
	if err != nil {
		return 0, err
	}
	if err := awaitClosed(ctx, pid); err != nil {
		return 0, fmt.Errorf("%s: %w", a.name, err)
	}
	small := filepath.Join(p.dir, "exports", name+".tar.zst")
	freeze := func(compression, file string) error {
		return execute(p.command(ctx, "container", "checkpoint", "--file-locks", "--leave-running", "--compress", compression, "-e", file, name))
	}
	if err := freeze("zstd", small); err != nil {
		return 0, err
	}
	for _, n := range cpus {
		if err := execute(p.command(ctx, "update", "--cpuset-cpus", cpuset(n), name)); err != nil {
			return 0, err
		}
		if err := freeze("none", p.export(a, n)); err != nil {
			return 0, err
		}
	}
	info, err := os.Stat(small)
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Remove(small)
}

// export is the file that an app is restored from. The CPUs that a container is confined to are part of it, and a
// restore can't change them.
func (p *podman) export(a app, cpus int) string {
	return filepath.Join(p.dir, "exports", fmt.Sprintf("%s-%d.tar", a.name, cpus))
}

// start restores an app under a new name and measures until it answers.
func (p *podman) start(ctx context.Context, a app, cpus int) (_ sample, err error) {
	name := fmt.Sprintf("clone-%s-%d", a.name, cpus)
	addr, err := freeAddress(ctx)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, p.remove(ctx, name)) }()
	begin := time.Now()
	err = execute(p.command(ctx, "container", "restore", "--file-locks", "-i", p.export(a, cpus), "-n", name,
		"--publish", fmt.Sprintf("%s:%d", addr, a.port)))
	if err != nil {
		return sample{}, err
	}
	if err := firstAnswer(ctx, "http://"+addr+a.path); err != nil {
		return sample{}, err
	}
	s := sample{total: time.Since(begin)}

	pid, err := p.pid(ctx, name)
	if err != nil {
		return sample{}, err
	}
	return s, checkProcessPinned(pid, cpus)
}

// pid is that of a container's first process.
func (p *podman) pid(ctx context.Context, name string) (int, error) {
	out, err := p.command(ctx, "inspect", "--format", "{{.State.Pid}}", name).Output()
	if err != nil {
		return 0, fmt.Errorf("podman inspect %s: %w", name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return 0, fmt.Errorf("podman inspect %s: %w", name, err)
	}
	return pid, nil
}

// remove removes a container, also when ctx has ended.
func (p *podman) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return execute(p.command(ctx, "rm", "--force", "--ignore", "--time", "0", name))
}

// close removes everything, mounts included.
func (p *podman) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return execute(p.command(ctx, "system", "reset", "--force"))
}

func (p *podman) command(ctx context.Context, args ...string) *exec.Cmd {
	global := []string{
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"),
		"--network-config-dir", filepath.Join(p.dir, "networks"), "--events-backend", "none",
		// As the engine does it; crun, the default, refuses to run on a machine with both versions of cgroups.
		"--runtime", "runc", "--cgroup-manager", "cgroupfs",
	}
	cmd := exec.CommandContext(ctx, "podman", append(global, args...)...)
	cmd.Env = append(os.Environ(), "PODMAN_IGNORE_CGROUPSV1_WARNING=1")
	return cmd
}

// awaitClosed returns when a process's network has no open TCP connection: Podman refuses to freeze one, and the app may
// close that of the first answer some time after it has been read.
func awaitClosed(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		open := false
		for _, table := range []string{"tcp", "tcp6"} {
			sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
			if err != nil {
				return err
			}
			open = open || connected(string(sockets))
		}
		if !open {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("a connection stays open: %w", ctx.Err())
		}
	}
}

// connected reports whether a table of sockets as in /proc/net/tcp holds others than those that listen or that the kernel
// keeps on its own account after both ends have closed.
func connected(sockets string) bool {
	const listening, timeWait = "0A", "06"
	_, sockets, _ = strings.Cut(sockets, "\n") // the header
	for line := range strings.Lines(sockets) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[3] != listening && fields[3] != timeWait {
			return true
		}
	}
	return false
}

// execute runs a command; its error holds what the command wrote.
func execute(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// freeAddress returns a loopback address that nothing listens on.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
