package ociruntime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/hook"
)

// runHooks tells the app that it is a clone, in a goroutine of its own, and returns a channel that gets what came of it.
func (s *supervision) runHooks(inv invocation) <-chan error {
	result := make(chan error, 1)
	if len(s.request.AfterRestore) == 0 {
		result <- nil
		return result
	}
	go func() {
		var i Identity
		err := readJSON(s.path(identityName), &i)
		if err == nil {
			err = hook.Run(context.Background(), "after_restore", s.request.AfterRestore, func(ctx context.Context, h hook.Hook) error {
				return s.runHook(ctx, inv, h, i)
			})
		}
		result <- err
	}()
	return result
}

func (s *supervision) runHook(ctx context.Context, inv invocation, h hook.Hook, i Identity) error {
	switch h.Type {
	case hook.Signal:
		return unix.PidfdSendSignal(s.task, unix.SignalNum("SIG"+h.Signal), nil, 0)
	case hook.Exec:
		return s.execHook(ctx, inv, h.Command, i)
	case hook.HTTP:
		return s.post(ctx, h.Port, h.Path, i)
	default:
		return h.Validate()
	}
}

// execHook runs a command as a process of the container, with the environment that this container was created with: that of the app
// is its donor's.
func (s *supervision) execHook(ctx context.Context, inv invocation, command []string, i Identity) error {
	b, err := loadBundle(inv.bundle)
	if err != nil {
		return err
	}
	process := specs.Process{}
	if b.spec.Process != nil {
		process = *b.spec.Process
	}
	process.Args, process.Terminal, process.ConsoleSize = command, false, nil
	process.Env = append(append([]string{}, process.Env...), i.environ()...)
	file := s.path(processName)
	if err := writeJSON(file, process); err != nil {
		return err
	}
	defer os.Remove(file)
	cmd, err := runcCommand(append(append([]string{}, inv.global...), "exec", "--process", file, s.id)...)
	if err != nil {
		return err
	}
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // its end is that of what it has started
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			ended <- err
			return
		}
		ended <- cmd.Wait()
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return errors.New("the clone is ended with the command in it")
	case <-s.failed:
		return errKilled
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w%s", err, output.line())
	}
	return err
}

// processName is the process that runc is to run in the container.
const processName = "process.json"

// mostOutput is how much of what a hook says is kept, in bytes.
const mostOutput = 4 << 10

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > mostOutput {
		t.b = bytes.Clone(t.b[len(t.b)-mostOutput:])
	}
	return len(p), nil
}

// line is ": LINE", with the last line that is not empty, or "".
func (t *tail) line() string {
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	if last := strings.ToValidUTF8(lines[len(lines)-1], "�"); last != "" {
		return ": " + last
	}
	return ""
}

// post sends the identity to a port of the container from inside its network namespace.
func (s *supervision) post(ctx context.Context, port int, path string, i Identity) error {
	body, err := json.Marshal(i)
	if err != nil {
		return err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.pid))
	if err != nil {
		return err
	}
	defer netns.Close()
	if err := unix.PidfdSendSignal(s.task, 0, nil, 0); err != nil { // then the pid may have been another process's already
		return fmt.Errorf("the clone has ended: %w", err)
	}
	conn, err := dialIn(ctx, netns, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: criu-docker\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		path, address, len(body), body)
	if err != nil {
		return err
	}
	return readStatus(conn)
}

// readStatus reads the head of an HTTP answer, and returns what is wrong with it. net/http would make each start of the runtime
// slower by more than a millisecond.
func readStatus(r io.Reader) error {
	head := textproto.NewReader(bufio.NewReader(io.LimitReader(r, 64<<10)))
	line, err := head.ReadLine()
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	version, status, _ := strings.Cut(line, " ")
	if !strings.HasPrefix(version, "HTTP/1.") || len(status) < 3 {
		return fmt.Errorf("%q is not an answer in HTTP", line)
	}
	if status[0] == '2' {
		return nil
	}
	header, err := head.ReadMIMEHeader()
	if err != nil {
		return fmt.Errorf("it answered %q", status)
	}
	var said []byte // whatever there is
	if strings.EqualFold(header.Get("Transfer-Encoding"), "chunked") {
		said = readChunks(head.R)
	} else {
		said, _ = io.ReadAll(io.LimitReader(head.R, mostOutput))
	}
	return fmt.Errorf("it answered %q%s", status, (&tail{said}).line())
}

// readChunks reads the beginning of a chunked body, up to what is wrong with it.
func readChunks(r *bufio.Reader) (said []byte) {
	for len(said) < mostOutput {
		line, _ := r.ReadString('\n')
		digits, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 32)
		if err != nil || size == 0 {
			break
		}
		chunk := make([]byte, min(size, mostOutput))
		n, err := io.ReadFull(r, chunk)
		said = append(said, chunk[:n]...)
		if _, derr := r.Discard(len("\r\n")); err != nil || derr != nil || size > mostOutput {
			break
		}
	}
	return said
}

// dialIn connects to an address in a network namespace. The thread that was in there ends.
func dialIn(ctx context.Context, netns *os.File, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread is in the wrong namespace from now on
		if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("network namespace of the clone: %w", err)}
			return
		}
		conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, "tcp4", address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}
