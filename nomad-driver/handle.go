package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/client/lib/cpustats"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/nomad-driver/logs"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// errVanished is the result of a task whose container was removed from outside.
var errVanished = errors.New("the container was removed by something other than Nomad")

// taskHandle is a task with its container.
type taskHandle struct {
	cfg     *drivers.TaskConfig
	state   taskState
	eng     *engine.Engine
	logger  hclog.Logger
	compute cpustats.Compute
	emit    func(message string, annotations map[string]string)

	endpoint  string
	forwarder *logs.Forwarder // nil if Nomad collects no logs

	done chan struct{} // closed when the container has ended and its logs are delivered

	mu        sync.Mutex
	exit      *drivers.ExitResult // nil while it runs
	completed time.Time
}

func (d *Driver) newHandle(eng *engine.Engine, cfg *drivers.TaskConfig, state taskState) *taskHandle {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &taskHandle{
		cfg: cfg, state: state, eng: eng, compute: d.compute, endpoint: d.settings.Endpoint,
		emit:   func(message string, annotations map[string]string) { d.emit(cfg, message, annotations) },
		logger: d.logger.With("task_id", cfg.ID, "container_id", state.ContainerID),
		done:   make(chan struct{}),
	}
}

// startLogs has the container's output forwarded, from its beginning or, when resumed, from where it was left.
func (h *taskHandle) startLogs(resume bool) error {
	if h.cfg.StdoutPath == "" || h.cfg.StderrPath == "" {
		return nil // the agent collects no logs
	}
	position, err := h.logPosition(resume)
	if err != nil {
		return fmt.Errorf("log position: %w", err)
	}
	spec := logs.Spec{
		Endpoint: h.endpoint, ContainerID: h.state.ContainerID, TTY: h.state.TTY,
		Stdout: h.cfg.StdoutPath, Stderr: h.cfg.StderrPath,
		Position: position,
	}
	report := func(line string) { h.logger.Warn("log forwarder", "message", line) }
	start := logs.Start
	if resume {
		start = logs.Resume
	}
	h.forwarder, err = start(spec, report)
	return err
}

// logPosition is the file that tells how far the task's forwarder got. Earlier versions kept it in the task's directory, where the task
// could change it: that one is used for a task which such a version has started, until it ends.
func (h *taskHandle) logPosition(resume bool) (string, error) {
	file, err := notesOf(h.eng).file(logNotes, h.state.ContainerID)
	if err != nil || !resume {
		return file, err
	}
	former := filepath.Join(h.cfg.TaskDir().Dir, ".criu-docker-logs")
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Lstat(former); err == nil && info.Mode().IsRegular() {
			return former, nil
		}
	}
	return file, nil
}

// logTimeout is how long an ended container's last output may take to be delivered.
const logTimeout = 5 * time.Second

// run waits for the container's end. It owns h.exit and h.done, and ends with ctx.
func (h *taskHandle) run(ctx context.Context) {
	result, completed := h.wait(ctx)
	if ctx.Err() != nil {
		return // the plugin ends; the container goes on
	}
	h.explainLoss(result)
	if h.forwarder != nil {
		logCtx, cancel := context.WithTimeout(ctx, logTimeout)
		if err := h.forwarder.Finish(logCtx); err != nil {
			h.logger.Warn("the last lines of output may be missing from the task's logs", "error", err)
		}
		cancel()
	}
	h.logger.Info("task ended", "exit_code", result.ExitCode, "oom_killed", result.OOMKilled, "error", result.Err)
	h.mu.Lock()
	h.exit, h.completed = result, completed
	h.mu.Unlock()
	close(h.done)
}

// wait returns how the container ended. While the engine does not answer (a dockerd that restarts, say) it keeps asking.
func (h *taskHandle) wait(ctx context.Context) (*drivers.ExitResult, time.Time) {
	for delay := 100 * time.Millisecond; ctx.Err() == nil; delay = min(2*delay, 5*time.Second) {
		ended, errs := h.eng.Client.ContainerWait(ctx, h.state.ContainerID, container.WaitConditionNotRunning)
		select {
		case <-ended:
		case err := <-errs:
			h.logger.Debug("waiting for the container's end was interrupted", "error", err)
		}
		c, err := h.eng.Client.ContainerInspect(ctx, h.state.ContainerID)
		switch {
		case engine.IsNotFound(err):
			return &drivers.ExitResult{ExitCode: -1, Err: errVanished}, time.Now()
		case err == nil && !c.State.Running && !c.State.Restarting:
			result, completed := exitResult(c.State)
			if why := restore.ExplainEnd(ctx, h.state.ContainerID, c.State); why != "" {
				result.Err = errors.New(why)
				h.emit("Ended: "+why, map[string]string{"ended": why, "container_id": h.state.ContainerID})
			}
			return result, completed
		case err != nil:
			h.logger.Warn("the engine does not report the state of the container", "error", err)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
	return nil, time.Time{}
}

// explainLoss says why a clone was killed before all of its memory was there: its exit code does not tell. The runtime has
// noted it before it killed the clone, and what it noted is there until the container is removed.
func (h *taskHandle) explainLoss(result *drivers.ExitResult) {
	report, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadReport(h.state.ContainerID)
	if err != nil {
		h.logger.Warn("the runtime's report on the container can't be read", "error", err)
	}
	if report.Lost == "" {
		return
	}
	result.Err = errors.New(report.Lost)
	h.emit("Lost: "+report.Lost, map[string]string{"lost": report.Lost, "container_id": h.state.ContainerID})
}

// exitResult reads how a container ended from its state.
func exitResult(s *container.State) (*drivers.ExitResult, time.Time) {
	result := &drivers.ExitResult{ExitCode: s.ExitCode, OOMKilled: s.OOMKilled}
	switch {
	case s.Status == container.StateRemoving:
		// The engine notes a removal by force before it kills the container; Nomad's own begins after the task's end.
		result.Err = errVanished
	case s.OOMKilled:
		result.Err = errors.New("the container was killed because it exceeded its memory limit")
	case s.Error != "":
		result.Err = errors.New(s.Error)
	}
	completed, err := time.Parse(time.RFC3339Nano, s.FinishedAt)
	if err != nil {
		completed = time.Now()
	}
	return result, completed
}

func (h *taskHandle) running() bool {
	select {
	case <-h.done:
		return false
	default:
		return true
	}
}

func (h *taskHandle) status() *drivers.TaskStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	status := &drivers.TaskStatus{
		ID:              h.cfg.ID,
		Name:            h.cfg.Name,
		State:           drivers.TaskStateRunning,
		StartedAt:       h.state.StartedAt,
		CompletedAt:     h.completed,
		ExitResult:      h.exit.Copy(),
		NetworkOverride: h.state.Network,
		DriverAttributes: map[string]string{
			"container_id": h.state.ContainerID,
			"start":        string(h.state.Start),
			"snapshot":     h.state.Ref,
			"reason":       h.state.Reason,
		},
	}
	if h.exit != nil {
		status.State = drivers.TaskStateExited
	}
	return status
}

// defaultStopSignal ends a container whose image and job name none.
const defaultStopSignal = "SIGTERM"

// stop sends signal ("" takes the image's) and, if the container runs on after timeout, kills it.
func (h *taskHandle) stop(ctx context.Context, timeout time.Duration, signal string) error {
	if !h.running() {
		return nil
	}
	if signal == "" {
		c, err := h.eng.Client.ContainerInspect(ctx, h.state.ContainerID)
		if err != nil && !engine.IsNotFound(err) {
			return fmt.Errorf("stop task %q: %w", h.cfg.ID, err)
		}
		if err == nil {
			signal = c.Config.StopSignal
		}
	}
	if err := h.signal(ctx, cmp.Or(signal, defaultStopSignal)); err != nil && h.running() {
		h.logger.Warn("the container could not be asked to end, so it is killed", "error", err)
		timeout = 0
	}
	if h.waitDone(ctx, timeout) {
		return nil
	}
	// A container that ends at this moment cannot be killed; its end is noticed soon.
	if err := h.signal(ctx, "SIGKILL"); err != nil && !errdefs.IsConflict(err) && !engine.IsNotFound(err) && h.running() {
		return err
	}
	if !h.waitDone(ctx, killTimeout) {
		return fmt.Errorf("task %q runs on %s after SIGKILL", h.cfg.ID, killTimeout)
	}
	return nil
}

// waitDone reports whether the task ended within timeout.
func (h *taskHandle) waitDone(ctx context.Context, timeout time.Duration) bool {
	if timeout <= 0 {
		return !h.running()
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-h.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return !h.running()
}

// signal sends a signal, by name, to the container's first process.
func (h *taskHandle) signal(ctx context.Context, signal string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := h.eng.Client.ContainerKill(ctx, h.state.ContainerID, signal); err != nil {
		return fmt.Errorf("send %s to task %q: %w", signal, h.cfg.ID, err)
	}
	return nil
}
