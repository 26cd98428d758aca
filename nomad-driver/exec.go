package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/armon/circbuf"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"
)

// ExecTask runs a command in the container, as script checks do, and returns what it wrote (the last
// drivers.CheckBufSize bytes of each stream). A command that takes longer than timeout is killed.
func (d *Driver) ExecTask(taskID string, cmd []string, timeout time.Duration) (*drivers.ExecTaskResult, error) {
	ctx, cancel := context.WithTimeout(d.ctx, timeout)
	defer cancel()
	stdout, err := circbuf.NewBuffer(drivers.CheckBufSize)
	if err != nil {
		return nil, err
	}
	stderr, err := circbuf.NewBuffer(drivers.CheckBufSize)
	if err != nil {
		return nil, err
	}
	result, err := d.ExecTaskStreaming(ctx, taskID, &drivers.ExecOptions{
		Command: cmd,
		Stdin:   io.NopCloser(bytes.NewReader(nil)),
		Stdout:  nopCloser{stdout},
		Stderr:  nopCloser{stderr},
	})
	if err != nil {
		return nil, err
	}
	return &drivers.ExecTaskResult{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), ExitResult: result}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// ExecTaskStreaming runs a command in the container with the given streams, on a terminal if asked. The command is
// killed when ctx ends before it does.
func (d *Driver) ExecTaskStreaming(ctx context.Context, taskID string, opts *drivers.ExecOptions) (*drivers.ExitResult, error) {
	defer opts.Stdout.Close()
	defer opts.Stderr.Close()
	h, ok := d.tasks.get(taskID)
	if !ok {
		return nil, drivers.ErrTaskNotFound
	}
	if len(opts.Command) == 0 {
		return nil, errors.New("exec: the command is empty")
	}
	if !h.running() {
		return nil, fmt.Errorf("exec in task %q: it has ended", taskID)
	}
	docker := h.eng.Client
	created, err := docker.ContainerExecCreate(ctx, h.state.ContainerID, container.ExecOptions{
		Cmd: opts.Command, Tty: opts.Tty,
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, fmt.Errorf("exec in task %q: %w", taskID, err)
	}
	stream, err := docker.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{Tty: opts.Tty})
	if err != nil {
		return nil, fmt.Errorf("exec in task %q: %w", taskID, err)
	}
	defer stream.Close()
	// The connection is a raw one that knows nothing of ctx.
	defer context.AfterFunc(ctx, func() { h.killExec(created.ID); stream.Close() })()

	go func() { // ends when the caller closes its end, or with the connection
		_, _ = io.Copy(stream.Conn, opts.Stdin)
		_ = stream.CloseWrite()
	}()
	resizeCtx, stopResizing := context.WithCancel(ctx)
	defer stopResizing()
	go h.resizeExec(resizeCtx, created.ID, opts.ResizeCh)

	if opts.Tty {
		_, err = io.Copy(opts.Stdout, stream.Reader)
	} else {
		_, err = stdcopy.StdCopy(opts.Stdout, opts.Stderr, stream.Reader)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("exec in task %q: %w", taskID, ctx.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("exec in task %q: output: %w", taskID, err)
	}
	state, err := docker.ContainerExecInspect(ctx, created.ID)
	if err != nil {
		return nil, fmt.Errorf("exec in task %q: result: %w", taskID, err)
	}
	return &drivers.ExitResult{ExitCode: state.ExitCode}, nil
}

// resizeExec follows the caller's terminal size.
func (h *taskHandle) resizeExec(ctx context.Context, execID string, sizes <-chan drivers.TerminalSize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			err := h.eng.Client.ContainerExecResize(ctx, execID, container.ResizeOptions{Height: uint(size.Height), Width: uint(size.Width)})
			if err != nil && ctx.Err() == nil {
				h.logger.Debug("the terminal of an exec was not resized", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// killExec ends the process of an exec, for which the engine has no call. The driver runs on the engine's machine.
func (h *taskHandle) killExec(execID string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	state, err := h.eng.Client.ContainerExecInspect(ctx, execID)
	if err != nil || !state.Running || state.Pid == 0 {
		return
	}
	if err := killMember(state.Pid, h.state.ContainerID); err != nil {
		h.logger.Warn("the process of an exec was not ended", "pid", state.Pid, "error", err)
	}
}

// killMember kills a process if it is one of a container: what the engine has said of a pid may be true no more.
func killMember(pid int, containerID string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The pid is that of the descriptor's process, or of none, for as long as this says something.
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(groups), containerID) {
		return nil // it has ended
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}
