package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// unitMark is the first line of the units that the lab has written.
const unitMark = "# This is the lab's: it will be overwritten.\n"

// units keeps services running by means of systemd. A service without a command is a unit of a package, which is not touched.
type units struct {
	supervisor *supervisor

	mu    sync.Mutex
	known []service
}

func (u *units) services() []service {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.known
}

// ensure makes these, and no others of the lab, the services of the node.
func (u *units) ensure(ctx context.Context, wanted []service) error {
	u.mu.Lock()
	u.known = wanted
	u.mu.Unlock()
	changed, err := writeUnits(wanted)
	if err != nil {
		return err
	}
	if len(changed) > 0 {
		if err := u.systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	for _, s := range wanted {
		if err := u.awaitOthers(ctx, s); err != nil {
			return err
		}
		verb := "start"
		if changed[s.Name] {
			verb = "restart"
		}
		if err := u.systemctl(ctx, verb, "--no-block", s.Name); err != nil {
			return err
		}
	}
	return u.removeOthers(ctx, wanted)
}

// writeUnits writes the units that are not as they should be, and returns their names.
func writeUnits(wanted []service) (map[string]bool, error) {
	changed := map[string]bool{}
	for _, s := range wanted {
		files := map[string]string{}
		for path, content := range s.Files {
			files[path] = content
		}
		if len(s.Argv) > 0 {
			files[filepath.Join(unitDir, s.Name+".service")] = unitText(s)
		}
		for path, content := range files {
			if old, err := os.ReadFile(path); err == nil && string(old) == content {
				delete(files, path)
			}
		}
		if len(files) == 0 {
			continue
		}
		changed[s.Name] = true
		if err := writeFiles(files); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// awaitOthers waits until the services are ready that another one wants to be.
func (u *units) awaitOthers(ctx context.Context, s service) error {
	for !u.ready(ctx, s.After) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("start %s after %s: %w", s.Name, strings.Join(s.After, ", "), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// ready reports whether the named services are; those that don't run on this node don't count.
func (u *units) ready(ctx context.Context, names []string) bool {
	for _, s := range u.services() {
		for _, name := range names {
			if s.Name == name && s.Probe.check(ctx) != nil {
				return false
			}
		}
	}
	return true
}

// removeOthers removes units that the lab has written for services that are not wanted any more.
func (u *units) removeOthers(ctx context.Context, wanted []service) error {
	keep := map[string]bool{}
	for _, s := range wanted {
		keep[s.Name+".service"] = true
	}
	entries, err := os.ReadDir(unitDir)
	if err != nil {
		return fmt.Errorf("units: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(unitDir, e.Name())
		if keep[e.Name()] || !e.Type().IsRegular() {
			continue
		}
		if content, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(content, []byte(unitMark)) {
			continue
		}
		if err := u.systemctl(ctx, "stop", e.Name()); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("units: %w", err)
		}
	}
	return nil
}

func (u *units) restart(ctx context.Context, name string) error {
	return u.systemctl(ctx, "restart", name)
}

func (u *units) stop(ctx context.Context, name string) error { return u.systemctl(ctx, "stop", name) }

func (u *units) states() []serviceState {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	states := []serviceState{}
	for _, s := range u.services() {
		properties, err := u.show(ctx, s.Name)
		state := serviceState{Name: s.Name, Log: filepath.Join("/lab/log", s.Name+".log"), LastExit: properties["Result"]}
		if err != nil {
			state.LastExit = err.Error()
		}
		state.PID, _ = strconv.Atoi(properties["MainPID"])
		state.Starts, _ = strconv.Atoi(properties["NRestarts"])
		state.Starts++
		if since, err := strconv.ParseInt(strings.TrimPrefix(properties["ActiveEnterTimestamp"], "@"), 10, 64); err == nil {
			state.Since = time.Unix(since, 0)
		}
		state.Ready = properties["ActiveState"] == "active" && s.Probe.check(ctx) == nil
		states = append(states, state)
	}
	return states
}

// show returns what systemd knows of a unit.
func (u *units) show(ctx context.Context, name string) (map[string]string, error) {
	out, err := u.run(ctx, "show", "--timestamp=unix", "--property=ActiveState,MainPID,NRestarts,Result,ActiveEnterTimestamp", name)
	properties := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		properties[key] = value
	}
	return properties, err
}

func (u *units) systemctl(ctx context.Context, args ...string) error {
	_, err := u.run(ctx, args...)
	return err
}

// run runs systemctl. Only the supervisor waits for children.
func (u *units) run(ctx context.Context, args ...string) (string, error) {
	out, err := os.CreateTemp("", "systemctl-")
	if err != nil {
		return "", fmt.Errorf("systemctl: %w", err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.Command("systemctl", args...)
	cmd.Stdout, cmd.Stderr = out, out
	pid, exited, err := u.supervisor.start(cmd)
	if err != nil {
		return "", fmt.Errorf("systemctl: %w", err)
	}
	var status unix.WaitStatus
	select {
	case status = <-exited:
	case <-ctx.Done():
		_ = unix.Kill(pid, unix.SIGKILL)
		status = <-exited
		err = ctx.Err()
	}
	text, rerr := os.ReadFile(out.Name())
	if err == nil && status.ExitStatus() != 0 {
		err = describeExit(status)
	}
	if err = errors.Join(err, rerr); err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(text)))
	}
	return string(text), nil
}
