package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

const (
	// bootTimeout bounds what a start takes beyond the snapshot's part: creating the container and starting it.
	bootTimeout = 2 * time.Minute
	// callTimeout bounds an exchange with the engine that should take milliseconds.
	callTimeout = 30 * time.Second
	// killTimeout is how long a killed container may take to be gone.
	killTimeout = 30 * time.Second
)

// StartTask starts the task's container from a snapshot or cold, as its policy says, and says in the task's events which
// it was. What an interrupted start of the same task left behind is removed first.
func (d *Driver) StartTask(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	if _, ok := d.tasks.get(cfg.ID); ok {
		return nil, nil, fmt.Errorf("task %q is running already", cfg.ID)
	}
	began := time.Now()
	s := d.config()
	tc, err := decodeTask(cfg)
	if err != nil {
		return nil, nil, err
	}
	plan, err := tc.plan(s)
	if err != nil {
		return nil, nil, err
	}
	req, err := buildRequest(cfg, tc, s)
	if err != nil {
		return nil, nil, err
	}
	d.remember(cfg)

	eng, err := d.docker(d.ctx)
	if err != nil {
		return nil, nil, structs.NewRecoverableError(err, true)
	}
	var prepare errgroup.Group
	prepare.Go(func() error { return writeEnvFiles(cfg) })
	prepare.Go(func() error { return d.nameGroup(eng, cfg, tc) })
	prepare.Go(func() error { return d.removeLeftover(eng, cfg, req.spec.Name) })
	prepare.Go(func() (err error) {
		req.spec.Config.Image, err = d.ensureImage(eng, cfg, tc)
		return err
	})
	if err := prepare.Wait(); err != nil {
		return nil, nil, err
	}

	prepared := restore.Event{Step: "prepare", Start: began, Elapsed: time.Since(began)}

	res, err := d.run(eng, cfg, req.spec, plan)
	if err != nil {
		return nil, nil, startError(err)
	}
	res.Steps = slices.Insert(res.Steps, 0, prepared)
	state := taskState{
		ContainerID: res.ContainerID, StartedAt: time.Now(),
		Start: res.Start, Ref: res.Ref, Reason: res.Reason, TTY: tc.TTY,
	}
	fail := func(err error) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
		if rerr := d.remove(eng, res.ContainerID); rerr != nil {
			err = errors.Join(err, rerr)
		}
		return nil, nil, startError(err)
	}
	if state.Network, err = d.driverNetwork(eng, res.ContainerID, tc, req); err != nil {
		return fail(err)
	}
	handle := drivers.NewTaskHandle(taskHandleVersion)
	handle.Config = cfg
	handle.State = drivers.TaskStateRunning
	if err := handle.SetDriverState(&state); err != nil {
		return fail(fmt.Errorf("state of task %q: %w", cfg.ID, err))
	}
	h := d.newHandle(eng, cfg, state)
	if err := h.startLogs(false); err != nil {
		return fail(err)
	}
	if sandbox := sandboxOf(cfg, tc); sandbox != "" {
		if err := notesOf(eng).noteNetwork(sandbox, cfg.AllocDir); err != nil {
			return fail(err)
		}
	}
	d.tasks.set(cfg.ID, h)
	go h.run(d.ctx)

	elapsed := time.Since(began)
	d.emit(cfg, startMessage(res, elapsed), startAnnotations(res, elapsed))
	d.logger.Info("task started", "task_id", cfg.ID, "container_id", res.ContainerID, "start", res.Start,
		"snapshot", res.Ref, "reason", res.Reason, "elapsed", elapsed)
	return handle, state.Network, nil
}

// run starts the container with the deadline of the plan.
func (d *Driver) run(eng *engine.Engine, cfg *drivers.TaskConfig, spec engine.Spec, plan startPlan) (*restore.Result, error) {
	opts := restore.Options{
		Spec:    spec,
		Policy:  plan.policy,
		Ref:     plan.ref,
		Memory:  plan.memory,
		Timeout: plan.timeout,

		AfterRestore: plan.hooks,
		OnEvent: func(e restore.Event) {
			d.logger.Debug("start", "task_id", cfg.ID, "step", e.Step, "message", e.Message, "elapsed", e.Elapsed)
		},
	}
	opts.Spec.OnWarning = func(w string) {
		d.logger.Warn("the engine warns of a task's container", "task_id", cfg.ID, "warning", w)
	}
	ctx := d.ctx // the plan's time does not count what a start waits for others; restore.Run bounds the rest
	if plan.policy != restore.PolicyNever {
		err := d.attachStore(ctx, &opts, plan)
		if err != nil && plan.policy == restore.PolicyAlways {
			return nil, err
		}
		if err != nil {
			// The policy allows to go on without snapshots; restore's own reason would only say that there is no store.
			opts.Policy = restore.PolicyNever
			res, runErr := restore.Run(ctx, eng, opts)
			if res != nil {
				res.Reason = err.Error()
			}
			return res, runErr
		}
	}
	return restore.Run(ctx, eng, opts)
}

// attachStore opens store and cache.
func (d *Driver) attachStore(ctx context.Context, opts *restore.Options, plan startPlan) (err error) {
	if opts.Cache, err = d.snapshotCache(); err != nil {
		return fmt.Errorf("the snapshot cache cannot be used: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, plan.timeout)
	defer cancel()
	if opts.Store, err = d.store(ctx, plan.store); err != nil {
		return fmt.Errorf("the snapshot store cannot be used: %w", err)
	}
	return nil
}

// startError marks what another attempt on this node can mend: everything but a request that the engine does not
// understand, and, with policy "always", a snapshot that does not fit.
func startError(err error) error {
	misfit := &restore.Misfit{}
	return structs.NewRecoverableError(err, !errdefs.IsInvalidArgument(err) && !errors.As(err, &misfit))
}

// removeLeftover removes a container of an earlier start of the same task, of which Nomad never learned. The task's id
// does not tell whose it is: Nomad gives a task another one at every start.
func (d *Driver) removeLeftover(eng *engine.Engine, cfg *drivers.TaskConfig, name string) error {
	ctx, cancel := context.WithTimeout(d.ctx, killTimeout)
	defer cancel()
	c, err := eng.Client.ContainerInspect(ctx, name)
	if engine.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return structs.NewRecoverableError(fmt.Errorf("look for a container of an earlier start: %w", err), true)
	}
	if c.Config.Labels[labelTaskID] == "" || c.Config.Labels[labelAllocID] != cfg.AllocID {
		return fmt.Errorf("a container named %s exists that does not belong to this task: remove it", name)
	}
	d.logger.Warn("removing the container of an interrupted start", "task_id", cfg.ID, "container_id", c.ID)
	if err := d.remove(eng, c.ID); err != nil {
		return structs.NewRecoverableError(err, true)
	}
	return nil
}

// RecoverTask takes up a task that an earlier plugin process started. It returns nil for one that it has already: Nomad
// also asks after restarts of the agent that the plugin survived.
func (d *Driver) RecoverTask(handle *drivers.TaskHandle) error {
	if handle == nil || handle.Config == nil {
		return errors.New("recover task: no handle")
	}
	cfg := handle.Config
	if _, ok := d.tasks.get(cfg.ID); ok {
		return nil
	}
	if handle.Version != taskHandleVersion {
		return fmt.Errorf("recover task %q: its handle has version %d, this driver knows %d", cfg.ID, handle.Version, taskHandleVersion)
	}
	var state taskState
	if err := handle.GetDriverState(&state); err != nil {
		return fmt.Errorf("recover task %q: %w", cfg.ID, err)
	}
	ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
	defer cancel()
	eng, err := d.docker(ctx)
	if err != nil {
		return fmt.Errorf("recover task %q: %w", cfg.ID, err)
	}
	if _, err := eng.Client.ContainerInspect(ctx, state.ContainerID); err != nil {
		return fmt.Errorf("recover task %q: %w", cfg.ID, err)
	}
	d.remember(cfg)
	h := d.newHandle(eng, cfg, state)
	if err := h.startLogs(true); err != nil {
		return fmt.Errorf("recover task %q: %w", cfg.ID, err)
	}
	d.tasks.set(cfg.ID, h)
	go h.run(d.ctx)
	d.logger.Info("task recovered", "task_id", cfg.ID, "container_id", state.ContainerID)
	return nil
}

// WaitTask is part of drivers.DriverPlugin.
func (d *Driver) WaitTask(ctx context.Context, taskID string) (<-chan *drivers.ExitResult, error) {
	h, ok := d.tasks.get(taskID)
	if !ok {
		return nil, drivers.ErrTaskNotFound
	}
	result := make(chan *drivers.ExitResult, 1)
	go func() {
		defer close(result)
		select {
		case <-h.done:
			result <- h.status().ExitResult
		case <-ctx.Done():
		case <-d.ctx.Done():
			result <- &drivers.ExitResult{Err: d.ctx.Err()}
		}
	}()
	return result, nil
}

// StopTask sends the signal (the image's own, or SIGTERM, if empty), and kills the container if it runs on after timeout.
func (d *Driver) StopTask(taskID string, timeout time.Duration, signal string) error {
	h, ok := d.tasks.get(taskID)
	if !ok {
		return drivers.ErrTaskNotFound
	}
	return h.stop(d.ctx, timeout, signal)
}

// DestroyTask removes the container and all that was made for it; a running one only by force.
func (d *Driver) DestroyTask(taskID string, force bool) error {
	h, ok := d.tasks.get(taskID)
	if !ok {
		return drivers.ErrTaskNotFound
	}
	if h.running() {
		if !force {
			return fmt.Errorf("task %q is running: stop it first, or use force", taskID)
		}
		if err := h.stop(d.ctx, 0, "SIGKILL"); err != nil {
			d.logger.Warn("ending the container before its removal", "task_id", taskID, "error", err)
		}
	}
	if d.config().GC.Container {
		if err := d.remove(h.eng, h.state.ContainerID); err != nil {
			return err
		}
	}
	d.tasks.delete(taskID)
	return nil
}

// remove ends and removes a container with its clone directory.
func (d *Driver) remove(eng *engine.Engine, containerID string) error {
	c, err := d.snapshotCache()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(d.ctx, killTimeout)
	defer cancel()
	if err := restore.Remove(ctx, eng, c, containerID); err != nil {
		return err
	}
	return notesOf(eng).forget(containerID)
}

// InspectTask is part of drivers.DriverPlugin.
func (d *Driver) InspectTask(taskID string) (*drivers.TaskStatus, error) {
	h, ok := d.tasks.get(taskID)
	if !ok {
		return nil, drivers.ErrTaskNotFound
	}
	return h.status(), nil
}

// SignalTask is part of drivers.DriverPlugin.
func (d *Driver) SignalTask(taskID, signal string) error {
	h, ok := d.tasks.get(taskID)
	if !ok {
		return drivers.ErrTaskNotFound
	}
	return h.signal(d.ctx, signal)
}
