// Package logs brings a container's output to the pipes from which Nomad collects a task's logs.
//
// A process of its own does it, one for each task, and it outlives the plugin: Nomad's log collector gives up on a
// pipe as soon as its last writer is gone, and starts again only when the task does, so that a plugin that wrote itself
// would silence its tasks by being restarted. The process ends with the container. It notes the time stamp of each line
// that it has delivered in a file, from which a successor goes on without a gap; a line can come twice only if
// the process is killed between writing a line and noting it.
package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec says what to forward.
type Spec struct {
	Endpoint    string `json:"endpoint,omitempty"` // the engine's address; "" takes DOCKER_HOST or the default
	ContainerID string `json:"container_id"`
	TTY         bool   `json:"tty,omitempty"` // the container has a terminal: one stream, without framing
	Stdout      string `json:"stdout"`        // named pipe
	Stderr      string `json:"stderr"`        // named pipe
	// Position is the file that tells how far the forwarder got. It is locked while a forwarder runs. It begins empty for
	// every container.
	Position string `json:"position"`
}

// PositionFile is where the forwarder of a task keeps its position, given the task's directory on the host.
func PositionFile(taskDir string) string { return filepath.Join(taskDir, ".criu-docker-logs") }

// Forwarder is a running forwarder process.
type Forwarder struct {
	pid int
}

// Start starts a forwarder for a new container. Its messages are passed to report, line by line, from another goroutine.
func Start(spec Spec, report func(line string)) (*Forwarder, error) {
	if err := os.Remove(spec.Position); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("log position: %w", err)
	}
	return launch(spec, report)
}

// Resume returns the forwarder that runs for spec, or starts one that goes on where the last one ended.
func Resume(spec Spec, report func(line string)) (*Forwarder, error) {
	pid, err := lockHolder(spec.Position)
	if err != nil {
		return nil, fmt.Errorf("log position: %w", err)
	}
	if pid > 0 {
		return &Forwarder{pid: pid}, nil
	}
	return launch(spec, report)
}

// launch starts the process in a session of its own and reaps it.
func launch(spec Spec, report func(line string)) (*Forwarder, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the log forwarder: %w", err)
	}
	input, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("start the log forwarder: %w", err)
	}
	// The messages have a pipe that belongs to this process. If the forwarder inherited the plugin's standard error, Nomad
	// would wait for it when it stops the plugin.
	messages, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the log forwarder: %w", err)
	}
	defer theirs.Close()
	cmd := exec.Command(exe, subcommand)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = theirs
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		messages.Close()
		return nil, fmt.Errorf("start the log forwarder: %w", err)
	}
	if err := cmd.Start(); err != nil {
		messages.Close()
		return nil, fmt.Errorf("start the log forwarder: %w", err)
	}
	go func() { // ends with the process
		_, _ = stdin.Write(input) // the process says so if it gets nothing
		stdin.Close()
		for lines := bufio.NewScanner(messages); lines.Scan(); {
			report(lines.Text())
		}
		messages.Close()
		_ = cmd.Wait()
	}()
	return &Forwarder{pid: cmd.Process.Pid}, nil
}

// Finish waits until the forwarder has delivered everything and ended, which it does soon after its container. When ctx
// ends first, it kills the forwarder.
func (f *Forwarder) Finish(ctx context.Context) error {
	fd, err := unix.PidfdOpen(f.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("log forwarder %d: %w", f.pid, err)
	}
	defer unix.Close(fd)
	for {
		// A pidfd becomes readable when its process ends.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(pollInterval/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("log forwarder %d: %w", f.pid, err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end log forwarder %d: %w", f.pid, err)
			}
			return fmt.Errorf("log forwarder %d did not finish: %w", f.pid, ctx.Err())
		}
	}
}

// pollInterval is how soon Finish notices that its context ended.
const pollInterval = 100 * time.Millisecond
