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

// Forwarder is a running forwarder process. It is held by a pidfd, since its pid may become another process's.
type Forwarder struct {
	process int // pidfd; -1 on a kernel without
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
	process, err := openLockHolder(spec.Position)
	if err != nil {
		return nil, fmt.Errorf("log position: %w", err)
	}
	if process >= 0 {
		return &Forwarder{process: process}, nil
	}
	return launch(spec, report)
}

// openLockHolder returns a pidfd of the process that has the file locked, -1 if there is none.
func openLockHolder(path string) (int, error) {
	for {
		pid, err := lockHolder(path)
		if err != nil || pid == 0 {
			return -1, err
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended meanwhile, and its lock with it
		}
		if err != nil {
			return -1, fmt.Errorf("process %d: %w", pid, err)
		}
		// Only a process that has the lock still is surely the one that had it when the pidfd was opened.
		again, err := lockHolder(path)
		if err == nil && again == pid {
			return fd, nil
		}
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
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
	process := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: &process}
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
	return &Forwarder{process: process}, nil
}

// Finish waits until the forwarder has delivered everything and ended, which it does soon after its container. When ctx
// ends first, it kills the forwarder. It is called once.
func (f *Forwarder) Finish(ctx context.Context) error {
	if f.process < 0 {
		return errors.New("log forwarder: no process to wait for: pidfds need Linux 5.4")
	}
	defer unix.Close(f.process)
	for {
		// A pidfd becomes readable when its process ends.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.process), Events: unix.POLLIN}}, int(pollInterval/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("log forwarder: %w", err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			if err := unix.PidfdSendSignal(f.process, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end log forwarder: %w", err)
			}
			return fmt.Errorf("log forwarder did not finish: %w", ctx.Err())
		}
	}
}

// pollInterval is how soon Finish notices that its context ended.
const pollInterval = 100 * time.Millisecond
