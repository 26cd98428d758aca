package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Node is one little machine of the lab, as seen from the host.
type Node struct {
	Name string
	Dir  string
	lab  *Lab
}

// nodeSpec is what init needs to know to be the node; up writes it.
type nodeSpec struct {
	Name   string `json:"name"`
	Rootfs string `json:"rootfs"`
	Cgroup string `json:"cgroup"`         // parent of every container's cgroup
	Bare   bool   `json:"bare,omitempty"` // without anything of this repository

	CgroupV2 bool `json:"cgroup_v2,omitempty"` // the node sees no other, and only its own part of it
	Systemd  bool `json:"systemd,omitempty"`   // process 1 is systemd

	VM string `json:"vm,omitempty"` // directory of what a virtual machine begins with, or "" for a node in namespaces
}

func readSpec(dir string) (nodeSpec, error) {
	var spec nodeSpec
	b, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if err != nil {
		return spec, fmt.Errorf("what node this is: %w", err)
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		return spec, fmt.Errorf("%s/node.json: %w", dir, err)
	}
	return spec, nil
}

// identity names a process beyond the reuse of its pid.
type identity struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // start time in clock ticks since boot
}

func identify(pid int) (identity, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return identity{}, err
	}
	// The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
	_, rest, ok := strings.Cut(string(b), ") ")
	for ok && strings.Contains(rest, ") ") {
		_, rest, ok = strings.Cut(rest, ") ")
	}
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return identity{}, fmt.Errorf("process %d: unexpected stat %q", pid, b)
	}
	if fields[0] == "Z" {
		return identity{}, fmt.Errorf("process %d has ended", pid)
	}
	return identity{PID: pid, Start: fields[19]}, nil
}

// initPID returns the host's pid of the node's init, or 0 if it doesn't run.
func (n *Node) initPID() int {
	return living(n.initFile()).PID
}

func (n *Node) initFile() string { return filepath.Join(n.Dir, "init.json") }

// start boots the node, without services, and returns when its init answers.
func (n *Node) start(ctx context.Context, spec nodeSpec) error {
	if spec.VM != "" {
		return n.startVM(ctx, spec)
	}
	if err := n.clean(); err != nil {
		return err
	}
	if err := n.prepare(spec); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.Dir, "log", "init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("node log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(n.Dir, "bin", "lab"), "init", n.Dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS |
			unix.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start node %s in namespaces of its own (needs root): %w", n.Name, err)
	}
	died := make(chan error, 1)
	go func() { died <- cmd.Wait() }()
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	if err := writeJSON(n.initFile(), id); err != nil {
		return err
	}
	return n.waitFor(ctx, died, 20*time.Second)
}

// waitFor returns when the new node's init answers.
func (n *Node) waitFor(ctx context.Context, died <-chan error, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		_, err := n.state(ctx)
		if err == nil {
			return nil
		}
		select {
		case exit := <-died:
			return fmt.Errorf("init of node %s ended: %w; %s", n.Name, exit, n.logTail("init"))
		case <-ctx.Done():
			return fmt.Errorf("init of node %s does not answer: %w; %s", n.Name, err, n.logTail("init"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// logTail is the end of a service's log, for error messages.
func (n *Node) logTail(service string) string {
	path := filepath.Join(n.Dir, "log", service+".log")
	b, _ := os.ReadFile(path)
	return fmt.Sprintf("its log %s ends with:\n%s", path, tail(b))
}

// prepare fills the node's directory with what its init needs.
func (n *Node) prepare(spec nodeSpec) error {
	for _, d := range []string{"bin", "log"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, d), 0o755); err != nil {
			return fmt.Errorf("node directory: %w", err)
		}
	}
	old, err := readSpec(n.Dir)
	if err == nil && old != spec {
		// What was written on top of another root file system doesn't fit this one, and a bare node has to be bare.
		for _, name := range []string{"upper", "disk"} {
			if err := os.RemoveAll(filepath.Join(n.Dir, name)); err != nil {
				return fmt.Errorf("node directory: %w", err)
			}
		}
	}
	if err := writeJSON(filepath.Join(n.Dir, "node.json"), spec); err != nil {
		return err
	}
	// A copy, because go run deletes its binary, and because a rebuild must not change a running node.
	return copyProgram("/proc/self/exe", filepath.Join(n.Dir, "bin", "lab"))
}

// ensureServices makes the node run exactly these services, leaving alone those that run as they should, and returns
// when all of them are ready.
func (n *Node) ensureServices(ctx context.Context, services []service) error {
	if _, err := n.ask(ctx, request{Op: "services", Services: services}); err != nil {
		return err
	}
	return n.waitReady(ctx)
}

func (n *Node) waitReady(ctx context.Context) error {
	patience := 90 * time.Second
	if n.isVM() {
		patience = vmPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		state, err := n.state(ctx)
		if err != nil {
			return err
		}
		culprit := unready(state.Services)
		if culprit == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s of node %s does not become ready (started %d times, last exit %q): %w; %s",
				culprit.Name, n.Name, culprit.Starts, culprit.LastExit, ctx.Err(), n.logTail(culprit.Name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// unready returns a service that isn't ready, rather one that has ended than one that waits for it; nil if all are.
func unready(services []serviceState) *serviceState {
	var culprit *serviceState
	for i, s := range services {
		if !s.Ready && (culprit == nil || culprit.LastExit == "" && s.LastExit != "") {
			culprit = &services[i]
		}
	}
	return culprit
}

// stop ends the node: its services first, so that they leave their data in order, then everything in it.
func (n *Node) stop(ctx context.Context) error {
	if init := living(n.initFile()); init.PID != 0 {
		slog.Debug("stopping", "node", n.Name, "pid", init.PID)
		end := func() error { return endProcess(ctx, init, n.stopSignal(), 20*time.Second) }
		if n.isVM() {
			end = func() error { return n.stopVM(ctx, init) }
		}
		if err := end(); err != nil {
			return fmt.Errorf("stop node %s: %w", n.Name, err)
		}
	}
	return n.clean()
}

// clean removes what a node leaves behind in the kernel when its processes are gone.
func (n *Node) clean() error {
	if pid := n.initPID(); pid != 0 {
		return fmt.Errorf("node %s still runs (pid %d)", n.Name, pid)
	}
	for _, f := range []string{"init.json", "init.sock", "vm.json"} {
		if err := os.Remove(filepath.Join(n.Dir, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("clean node %s: %w", n.Name, err)
		}
	}
	return removeCgroups(n.cgroup())
}

func (n *Node) cgroup() string { return filepath.Join(n.lab.cgroup(), n.Name) }

// endProcess asks a process to end by a signal and kills it when it has not done so in time.
func endProcess(ctx context.Context, process identity, ask unix.Signal, patience time.Duration) error {
	pid := process.PID
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if now, err := identify(pid); err != nil || now != process {
		return nil // it has ended, and its pid may be another process's
	}
	for _, step := range []struct {
		signal  unix.Signal
		timeout time.Duration
	}{{ask, patience}, {unix.SIGKILL, 10 * time.Second}} {
		if err := unix.PidfdSendSignal(fd, step.signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		deadline := time.Now().Add(step.timeout)
		for time.Now().Before(deadline) {
			polled, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
			if err == nil && polled > 0 {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp, path)
}

// copyProgram replaces target in one step, for it may be running at the moment.
func copyProgram(source, target string) error {
	in, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer in.Close()
	tmp := target + ".tmp" + strconv.Itoa(os.Getpid())
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(fmt.Errorf("copy %s to %s: %w", source, target, err), os.Remove(tmp))
	}
	return os.Rename(tmp, target)
}
