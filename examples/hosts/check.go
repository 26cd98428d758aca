package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// host is the machine that this program runs on, as its user sees it: through command lines and ports.
type host struct {
	lane, stores, bin, packages, older, readmeFile, out string

	patience time.Duration // with a step

	dir string // for what is thrown away at the end
}

// Names of what stays from step to step, and the image that all of it is made of: it serves HTTP at once, and says each request.
const (
	image = "tiny:lab"
	web1  = "hosts-web-1"
	web2  = "hosts-web-2"
	kept  = "hosts-kept" // has a restart policy
)

var command = []string{"--", "httpd", "-f", "-vv", "-p", "80", "-h", "/www"}

// errSkipped ends a step that can't be tried on this host; what it wraps says why.
var errSkipped = errors.New("not tried")

// check does the steps of a phase, and notes what came of each. A step whose forerunner failed is not tried.
func (h *host) check(ctx context.Context, phase string) error {
	came, err := readResult(h.out, h.lane)
	if err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp("/var/lib", "hosts-"); err != nil {
		return err
	}
	defer os.RemoveAll(h.dir)
	if came.Versions, err = h.versions(ctx); err != nil {
		return err
	}
	for _, s := range h.phase(phase) {
		began := time.Now()
		stepCtx, cancel := context.WithTimeout(ctx, h.patience)
		note, err := s.do(stepCtx)
		cancel()
		if errors.Is(err, errSkipped) {
			note, err = err.Error(), nil
		}
		came.note(s.name, began, note, err)
		slog.Info(s.name, "lane", h.lane, "note", came.Steps[s.name].Note, "err", err, "took", time.Since(began).Round(10*time.Millisecond))
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil && s.needed {
			break
		}
	}
	return came.write(h.out, h.lane)
}

// task does a step.
type task struct {
	name   string
	needed bool // by those after it
	do     func(context.Context) (note string, err error)
}

func (h *host) phase(name string) []task {
	switch name {
	case phaseReadme:
		return []task{{"readme", true, h.readme}}
	case phaseFirst:
		return []task{
			{"doctor", false, h.doctor},
			{"build", true, h.build},
			{"clones", true, h.clones},
			{"limits", false, h.limits},
			{"apparmor", false, h.apparmor},
			{"pause", false, h.pause},
			{"exec", false, h.exec},
			{"restart", false, h.restart},
			{"stop", false, h.stop},
			{"terraform", true, h.terraform},
			{"nomad", false, h.nomad},
		}
	case phaseUpgrade:
		return []task{{"upgrade", false, h.upgrade}}
	case phasePurge:
		return []task{{"purge", false, h.purge}}
	case phaseEngine:
		return []task{{"engine", false, h.engine}}
	case phaseReboot:
		return []task{{"reboot", false, h.keptIsBack}}
	case phaseOthers:
		return []task{{"others", false, h.others}}
	case phaseForget:
		return []task{{"left", false, h.left}}
	}
	return nil
}

func (h *host) store() string { return filepath.Join(h.stores, h.lane) }

func (h *host) doctor(ctx context.Context) (string, error) {
	return "", quiet(ctx, "criu-docker", "doctor")
}

func (h *host) build(ctx context.Context) (string, error) {
	return "", h.buildTo(ctx, h.store())
}

func (h *host) buildTo(ctx context.Context, store string) error {
	return quiet(ctx, "criu-docker", append([]string{"build", image, "--store", store, "--ready", "http://:80/"}, command...)...)
}

// start starts a clone of what a lane has frozen, or fails.
func start(ctx context.Context, store, name string, flags ...string) error {
	args := append([]string{"run", image, "--store", store, "--policy", "always", "--name", name, "--hostname", name, "--stop-timeout", "1"}, flags...)
	return quiet(ctx, "criu-docker", append(args, command...)...)
}

func (h *host) clones(ctx context.Context) (string, error) {
	for name, port := range ports {
		flags := []string{"-p", "127.0.0.1:" + port + ":80", "--memory", "64m", "--pids-limit", "50"}
		if name == kept {
			flags = append(flags, "--restart", "always")
		}
		if err := start(ctx, h.store(), name, flags...); err != nil {
			return "", err
		}
	}
	at, err := started(ctx)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(startedFile, []byte(at), 0o644); err != nil {
		return "", err
	}
	for name, port := range ports {
		if err := answers(ctx, port); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if err := h.isAlive(ctx, name); err != nil {
			return "", err
		}
		if err := logs(ctx, name, "response:200"); err != nil {
			return "", err
		}
	}
	return "", nil
}

// ports are where the clones are published.
var ports = map[string]string{web1: "18081", web2: "18082", kept: "18083"}

func (h *host) pause(ctx context.Context) (string, error) {
	if err := quiet(ctx, "docker", "pause", web1); err != nil {
		return "", err
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := get(short, ports[web1]); err == nil {
		return "", errors.New("a clone answers that is paused")
	}
	if err := quiet(ctx, "docker", "unpause", web1); err != nil {
		return "", err
	}
	return "", answers(ctx, ports[web1])
}

func (h *host) exec(ctx context.Context) (string, error) {
	got, err := output(ctx, "docker", "exec", "-e", "WHAT=said", web1, "sh", "-c", "echo $WHAT; exit 7")
	if code := exitCode(err); code != 7 || got != "said" {
		return "", fmt.Errorf("exit code %d and %q, want 7 and said: %w", code, got, err)
	}
	return "", nil
}

// restart brings a clone back that may not boot cold.
func (h *host) restart(ctx context.Context) (string, error) {
	if err := quiet(ctx, "docker", "restart", "-t", "1", web2); err != nil {
		return "", err
	}
	return "", answers(ctx, ports[web2])
}

func (h *host) stop(ctx context.Context) (string, error) {
	const cold = "hosts-cold"
	args := append([]string{"run", "-d", "--name", cold, image}, command[1:]...)
	if err := quiet(ctx, "docker", args...); err != nil {
		return "", err
	}
	codes := map[string]string{}
	for _, name := range []string{cold, web2} {
		if err := quiet(ctx, "docker", "stop", "-t", "1", name); err != nil {
			return "", err
		}
		code, err := output(ctx, "docker", "inspect", "-f", "{{.State.ExitCode}}", name)
		if err != nil {
			return "", err
		}
		codes[name] = code
	}
	if codes[cold] != codes[web2] {
		return "", fmt.Errorf("the exit code of the clone is %s, and that of a cold container %s", codes[web2], codes[cold])
	}
	return "", quiet(ctx, "docker", "rm", cold, web2)
}

// startedFile has when the clone with a restart policy was started, before the engine was restarted.
const startedFile = "/var/lib/hosts-started"

func started(ctx context.Context) (string, error) {
	return output(ctx, "docker", "inspect", "-f", "{{.State.StartedAt}}", kept)
}

// engine looks at the clone after the engine was restarted. With live-restore it was left alone, else started again.
func (h *host) engine(ctx context.Context) (string, error) {
	if err := answers(ctx, ports[kept]); err != nil {
		return "", err
	}
	before, err := os.ReadFile(startedFile)
	if err != nil {
		return "", err
	}
	now, err := started(ctx)
	if err != nil {
		return "", err
	}
	live, err := output(ctx, "docker", "info", "-f", "{{.LiveRestoreEnabled}}")
	if err == nil && (live == "true") != (now == string(before)) {
		err = fmt.Errorf("live-restore is %s; the clone was started at %s before, and at %s now", live, before, now)
	}
	return "", err
}

func (h *host) keptIsBack(ctx context.Context) (string, error) {
	return "", answers(ctx, ports[kept])
}
