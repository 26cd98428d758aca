package logs

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// subcommand makes the plugin's binary a forwarder.
const subcommand = "forward-logs"

// IsForwarder reports whether a command line (os.Args) is that of a forwarder; the program then calls Main and nothing else.
func IsForwarder(args []string) bool { return len(args) == 2 && args[1] == subcommand }

// Main is the forwarder process. It reads its Spec from standard input, reports on standard error, and returns the exit
// code.
func Main() int {
	signal.Ignore(syscall.SIGPIPE) // the plugin that reads the messages may be gone
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var spec Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		fmt.Fprintln(os.Stderr, "what to forward is read from standard input:", err)
		return 2
	}
	if err := forward(ctx, spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// attempts is how often reading the output of an ended container is tried.
const attempts = 5

// forward delivers the container's output until it has ended and everything is delivered.
func forward(ctx context.Context, spec Spec) error {
	pos, err := openPosition(spec.Position)
	if errors.Is(err, errLocked) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("log position: %w", err)
	}
	opts := []client.Opt{client.FromEnv, client.WithAPIVersionNegotiation()}
	if spec.Endpoint != "" {
		opts = append(opts, client.WithHost(spec.Endpoint))
	}
	docker, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return fmt.Errorf("docker host %q: %w", spec.Endpoint, err)
	}
	defer docker.Close()

	stdout, err := openPipe(ctx, spec.Stdout)
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := openPipe(ctx, spec.Stderr)
	if err != nil {
		return err
	}
	defer stderr.Close()

	for failed, delay := 0, 100*time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		readErr := follow(ctx, docker, spec, pos, stdout, stderr)
		if errors.Is(readErr, errNoReader) || errdefs.IsNotImplemented(readErr) {
			return readErr
		}
		ended, err := hasEnded(ctx, docker, spec.ContainerID)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && ended && readErr == nil:
			return nil
		case err == nil && ended:
			if failed++; failed == attempts {
				return readErr
			}
		}
		// The engine is restarting, or closed the stream while the container runs on.
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hasEnded reports whether the container will write no more.
func hasEnded(ctx context.Context, docker *client.Client, id string) (bool, error) {
	c, err := docker.ContainerInspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return !c.State.Running, nil
}

// follow delivers what comes after the position until the stream ends.
func follow(ctx context.Context, docker *client.Client, spec Spec, pos *position, stdout, stderr io.Writer) error {
	since, err := pos.get()
	if err != nil {
		return fmt.Errorf("log position: %w", err)
	}
	opts := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: true, Timestamps: !spec.TTY}
	if !since.IsZero() {
		opts.Since = since.Add(time.Nanosecond).Format(time.RFC3339Nano)
	}
	body, err := docker.ContainerLogs(ctx, spec.ContainerID, opts)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("output of container %.12s: %w", spec.ContainerID, err)
	}
	defer body.Close()
	if spec.TTY {
		err = copyRaw(body, stdout, pos)
	} else {
		err = copyFrames(body, stdout, stderr, pos)
	}
	if err != nil {
		return fmt.Errorf("output of container %.12s: %w", spec.ContainerID, err)
	}
	return nil
}

// copyRaw copies a terminal's output, in which messages cannot be told apart: the position is that of the clock.
func copyRaw(r io.Reader, w io.Writer, pos *position) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := pos.set(time.Now()); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// The engine's framing (api/types/container, "Stream format"): one frame for each message, a header of 8 bytes with the
// stream in the first and the length in the last four.
const (
	frameHeader = 8
	maxFrame    = 1 << 20 // the engine splits lines at 16 KiB

	streamStdout = 1
	streamStderr = 2
	streamSystem = 3 // an error of the engine's
)

// copyFrames copies the messages in r to their streams, without their time stamps.
func copyFrames(r io.Reader, stdout, stderr io.Writer, pos *position) error {
	var header [frameHeader]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, header[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(header[4:])
		if size > maxFrame {
			return fmt.Errorf("the engine sent a log message of %d bytes", size)
		}
		if int(size) > cap(buf) {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(r, buf); err != nil {
			return err
		}
		w := stdout
		switch header[0] {
		case streamStderr:
			w = stderr
		case streamSystem:
			return fmt.Errorf("the engine says: %s", buf)
		}
		stamp, message, err := splitTimestamp(buf)
		if err != nil {
			return err
		}
		if _, err := w.Write(message); err != nil {
			return err
		}
		if err := pos.set(stamp); err != nil {
			return fmt.Errorf("log position: %w", err)
		}
	}
}

// splitTimestamp takes the engine's time stamp off a message.
func splitTimestamp(message []byte) (time.Time, []byte, error) {
	stamp, rest, ok := bytes.Cut(message, []byte(" "))
	if !ok {
		return time.Time{}, nil, fmt.Errorf("log message %q has no time stamp", message)
	}
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("log message: %w", err)
	}
	return t, rest, nil
}
