package runtimeinstall

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/engine"
)

const (
	defaultDaemonJSON = "/etc/docker/daemon.json"
	defaultPidFile    = "/var/run/docker.pid"
	pollInterval      = 50 * time.Millisecond
)

// daemon is the dockerd of this machine. Its zero value stands for one that does not run.
type daemon struct {
	engine *engine.Engine
	// process is nil if it is unknown. It is a pidfd, so that a later process of its pid gets no signal of ours.
	process *os.Process
	args    []string      // its command line, without the program
	limit   time.Duration // how long it may take to act; 0 means reloadTimeout
}

// findDaemon looks for the dockerd that answers at host.
func findDaemon(ctx context.Context, host string) (*daemon, error) {
	eng, err := engine.Connect(ctx, host)
	if errors.Is(err, engine.ErrUnreachable) {
		return &daemon{}, nil
	}
	if err != nil {
		return nil, err
	}
	d := &daemon{engine: eng}
	socket, ok := strings.CutPrefix(eng.Client.DaemonHost(), "unix://")
	if !ok {
		d.close()
		return nil, fmt.Errorf("the engine at %s is on another machine, or reached as if it were: install the runtime there, through its unix socket",
			eng.Client.DaemonHost())
	}
	// With socket activation systemd is at the other end of the socket, and the pid file tells.
	for _, find := range []func() (int, error){func() (int, error) { return peer(ctx, socket) }, pidFromFile} {
		pid, err := find()
		if err != nil {
			continue
		}
		process, err := os.FindProcess(pid)
		if err != nil || !isDockerd(pid) {
			continue
		}
		d.process = process
		if d.args, err = commandLine(pid); err != nil {
			d.close()
			return nil, err
		}
		return d, nil
	}
	return d, nil
}

func (d *daemon) close() {
	if d.process != nil {
		_ = d.process.Release()
	}
	if d.engine != nil {
		d.engine.Close()
	}
}

func (d *daemon) patience() time.Duration { return cmp.Or(d.limit, reloadTimeout) }

// hasFlag reports whether a flag is on the daemon's command line; dockerd takes none both there and in daemon.json.
func (d *daemon) hasFlag(name string) bool {
	return slices.ContainsFunc(d.args, func(arg string) bool {
		flag, _, _ := strings.Cut(arg, "=")
		return flag == "--"+name
	})
}

// configFile is the daemon.json that the daemon reads.
func (d *daemon) configFile() string {
	for i, arg := range d.args {
		if value, ok := strings.CutPrefix(arg, "--config-file="); ok {
			return value
		}
		if arg == "--config-file" && i+1 < len(d.args) {
			return d.args[i+1]
		}
	}
	return defaultDaemonJSON
}

// validate lets dockerd judge a configuration together with its own command line: one that it refuses would keep it
// from starting.
func (d *daemon) validate(ctx context.Context, content []byte) error {
	if d.process == nil {
		return nil
	}
	fd, err := unix.MemfdCreate("daemon.json", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	temp := os.NewFile(uintptr(fd), "daemon.json")
	defer temp.Close()
	if _, err := temp.Write(content); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, d.patience())
	defer cancel()
	// /proc/PID/exe is the running program, even if its file has been replaced since.
	args := append(append([]string{}, d.args...), "--validate", "--config-file=/proc/self/fd/3")
	cmd := exec.CommandContext(ctx, filepath.Join("/proc", strconv.Itoa(d.process.Pid), "exe"), args...)
	cmd.ExtraFiles = []*os.File{temp}
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("dockerd --validate has not finished checking the changed configuration within %s: nothing was changed; try again when this machine is less busy", d.patience())
	}
	if err != nil {
		return fmt.Errorf("%w: dockerd refuses the changed configuration: %w: %s", ErrConflict, err, bytes.TrimSpace(out))
	}
	return nil
}

// apply lets dockerd read its configuration again, waits until it knows the runtimes that it should, and notes in
// result what is still to be done. done is given the paths of all runtimes by name.
func (d *daemon) apply(ctx context.Context, result *Result, done func(map[string]string) bool) error {
	if d.engine == nil {
		result.RestartNeeded = true
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.patience())
	defer cancel()
	for signalled := false; ; {
		info, err := d.engine.Client.Info(ctx)
		if err != nil {
			return fmt.Errorf("dockerd was to take over %s: %w", result.DaemonJSON, err)
		}
		known := map[string]string{}
		for name, r := range info.Runtimes {
			known[name] = r.Path
		}
		if done(known) {
			result.Reloaded = signalled
			file, err := readConfig(result.DaemonJSON)
			if err != nil {
				return err
			}
			result.RestartNeeded = !d.hasFlag("experimental") && info.ExperimentalBuild != (file.doc.get(keyExperimental) == "true")
			return nil
		}
		if !signalled {
			if d.process == nil {
				result.RestartNeeded = true // it runs, but who it is can't be told
				return nil
			}
			if err := d.process.Signal(syscall.SIGHUP); err != nil {
				return fmt.Errorf("reload dockerd (pid %d): %w", d.process.Pid, err)
			}
			signalled = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("dockerd (pid %d) was told to reload %s and has not done so within %s: look at its log, or restart it",
				d.process.Pid, result.DaemonJSON, d.patience())
		case <-time.After(pollInterval):
		}
	}
}

// peer returns the process that listens on a unix socket.
func peer(ctx context.Context, socket string) (int, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

func pidFromFile() (int, error) {
	b, err := os.ReadFile(defaultPidFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(b)))
}

func isDockerd(pid int) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err == nil && string(bytes.TrimSpace(comm)) == "dockerd"
}

func commandLine(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
	return parts[1:], nil
}
