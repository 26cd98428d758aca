package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// createTimeout bounds the creation of a container.
const createTimeout = time.Minute

// Create creates a container, not yet started, under the given runtime ("" takes the engine's default). The engine would
// go on for a caller that is gone, and the container would be unknown; so the end of ctx is heeded afterwards.
func (e *Engine) Create(ctx context.Context, spec Spec, runtime string) (id string, err error) {
	host := container.HostConfig{}
	if spec.Host != nil {
		host = *spec.Host
	}
	if runtime != "" {
		host.Runtime = runtime
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("create container of %q: %w", spec.Config.Image, context.Cause(ctx))
	}
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
	defer cancel()
	resp, err := e.Client.ContainerCreate(patient, spec.Config, &host, spec.Network, nil, spec.Name)
	if err == nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), e.Remove(patient, resp.ID))
	}
	if err != nil {
		return "", fmt.Errorf("create container of %q: %w", spec.Config.Image, err)
	}
	if spec.OnWarning != nil {
		for _, w := range resp.Warnings {
			spec.OnWarning(w)
		}
	}
	return resp.ID, nil
}

// WrapsDefault reports whether RuntimeName stands for the runtime that the engine takes by itself: it is registered, and the default
// is runc, which ours becomes.
func (e *Engine) WrapsDefault(ctx context.Context) (bool, error) {
	info, err := e.Client.Info(ctx)
	if err != nil {
		return false, fmt.Errorf("runtimes of the engine: %w", err)
	}
	_, registered := info.Runtimes[RuntimeName]
	return registered && info.DefaultRuntime == defaultRuntime, nil
}

// defaultRuntime is the engine's name of its own runc.
const defaultRuntime = "runc"

// Start starts a created container. The error holds what the runtime said.
func (e *Engine) Start(ctx context.Context, id string) error {
	if err := e.Client.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return fmt.Errorf("start container %.12s: %w", id, err)
	}
	return nil
}

// How often the engine is asked to freeze a container that could not be stopped, and the growing pause between.
const (
	freezeAttempts = 8
	freezePause    = 100 * time.Millisecond
)

// Freeze checkpoints a running container and ends it. Where the images go is the runtime's decision
// (ociruntime.Request.CheckpointDir), not the engine's.
func (e *Engine) Freeze(ctx context.Context, id string) error {
	for attempt := 1; ; attempt++ {
		err := e.Client.CheckpointCreate(ctx, id, checkpoint.CreateOptions{CheckpointID: "freeze", Exit: true})
		if err == nil {
			return nil
		}
		// On a busy machine, the kernel may take longer to stop every thread than runc waits for it (on cgroup v1). runc has
		// thawed the container then, and nothing else has happened yet.
		if attempt == freezeAttempts || !strings.Contains(err.Error(), "unable to freeze") {
			return fmt.Errorf("freeze container %.12s: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("freeze container %.12s: %w", id, err)
		case <-time.After(time.Duration(attempt) * freezePause):
		}
	}
}

// Output returns what a container writes, standard output and error mixed. Closing it ends the transfer.
func (e *Engine) Output(ctx context.Context, id string, options container.LogsOptions) (io.ReadCloser, error) {
	c, err := e.Client.ContainerInspect(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("output of container %.12s: %w", id, err)
	}
	options.ShowStdout, options.ShowStderr = true, true
	body, err := e.Client.ContainerLogs(ctx, id, options)
	if err != nil {
		return nil, fmt.Errorf("output of container %.12s: %w", id, err)
	}
	if c.Config.Tty {
		return body, nil // a terminal has one stream, which the engine sends as it is
	}
	r, w := io.Pipe()
	go func() { // ends with the body, or when nobody reads on
		_, err := stdcopy.StdCopy(w, w, body)
		w.CloseWithError(err)
	}()
	return output{r, body}, nil
}

// output is a container's output without the frames that the engine puts around it.
type output struct {
	*io.PipeReader
	body io.Closer
}

func (o output) Close() error { return errors.Join(o.PipeReader.Close(), o.body.Close()) }

// LastOutput returns the last lines that a container wrote, for use in error messages.
func (e *Engine) LastOutput(ctx context.Context, id string, lines int) (string, error) {
	out, err := e.Output(ctx, id, container.LogsOptions{Tail: strconv.Itoa(lines)})
	if err != nil {
		return "", err
	}
	defer out.Close()
	b, err := io.ReadAll(out)
	if err != nil {
		return "", fmt.Errorf("output of container %.12s: %w", id, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// WaitStopped returns when a container does not run any more.
func (e *Engine) WaitStopped(ctx context.Context, id string) error {
	exited, failed := e.Client.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case <-exited:
		return nil
	case err := <-failed:
		return fmt.Errorf("wait for the end of container %.12s: %w", id, err)
	}
}

// Exec runs a command in a container and returns an error if it does not exit 0.
func (e *Engine) Exec(ctx context.Context, id string, command []string) error {
	fail := func(err error) error { return fmt.Errorf("exec %q in container %.12s: %w", command, id, err) }
	created, err := e.Client.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return fail(err)
	}
	attached, err := e.Client.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return fail(err)
	}
	defer attached.Close()
	stop := context.AfterFunc(ctx, attached.Close) // the stream itself knows no deadline
	defer stop()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, attached.Reader); err != nil {
		return fail(err)
	}
	state, err := e.Client.ContainerExecInspect(ctx, created.ID)
	if err != nil {
		return fail(err)
	}
	if state.ExitCode != 0 {
		return fail(fmt.Errorf("exit code %d: %s", state.ExitCode, strings.TrimSpace(out.String())))
	}
	return nil
}
