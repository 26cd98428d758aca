package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// message is what hook, start and kill say to the supervisor; a connection carries one and gets one answer.
type message struct {
	Command string `json:"command"` // "hook", "start", "abort"
	Pid     int    `json:"pid,omitempty"`
}

// answer is the supervisor's. The hook's comes when the clone is released; its connection ends without one otherwise.
type answer struct {
	Error string `json:"error,omitempty"`
}

// supervise runs the restore of one clone, from create to the end of start, and is gone then.
func supervise(inv invocation) {
	// runc dies with the thread that started it (Pdeathsig), so this goroutine keeps its own.
	runtime.LockOSThread()
	c := container{run: DefaultRunDir, id: inv.id}
	ready := os.NewFile(readyFd, "ready")
	unix.CloseOnExec(readyFd)

	if err := c.superviseUntilHook(inv, ready); err != nil {
		_ = json.NewEncoder(ready).Encode(readyMessage{Error: err.Error()}) // create reports it
	}
}

func (c container) superviseUntilHook(inv invocation, ready *os.File) error {
	req, err := c.run.ReadRequest(c.id)
	if err != nil {
		return err
	}
	timeout := req.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	l, err := net.Listen("unix", c.path(socketName))
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	defer l.Close()

	s := &supervision{container: c, timeline: newTimeline(), timeout: timeout, calls: make(chan call), runcExited: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.accept(ctx, l)
	if err := s.startRestore(inv, req); err != nil {
		return err
	}

	hook, err := s.awaitHook()
	if err != nil {
		return s.fail(err)
	}
	s.timeline.done(StepFork)
	if err := json.NewEncoder(ready).Encode(readyMessage{Pid: hook.Pid}); err != nil {
		return s.fail(err) // create is gone: nobody will ever start this
	}
	ready.Close()
	s.awaitStart(hook)
	return nil
}

// supervision is the state of one restore.
type supervision struct {
	container
	timeline   *timeline
	timeout    time.Duration
	calls      chan call
	runc       *exec.Cmd
	runcExited chan struct{} // closed when runc has ended, with runcErr
	runcErr    error
	criu       int         // CRIU's pidfd, if the kernel tells
	criuDied   atomic.Bool // before runc, which is not as it should be
	task       int         // pidfd of the clone's first task, once there is one
}

// call is a message with the connection that waits for its answer.
type call struct {
	message
	conn net.Conn
}

func (k call) reply(err error) {
	var a answer
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(k.conn).Encode(a) // a caller that is gone needs no answer
	k.conn.Close()
}

func (s *supervision) accept(ctx context.Context, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			var m message
			if err := json.NewDecoder(conn).Decode(&m); err != nil {
				conn.Close()
				return
			}
			select {
			case s.calls <- call{m, conn}:
			case <-ctx.Done():
				conn.Close()
			}
		}()
	}
}

func (s *supervision) startRestore(inv invocation, req Request) error {
	if err := os.MkdirAll(s.path(workName), 0o700); err != nil {
		return err
	}
	args := append([]string{}, inv.global...)
	args = append(args, "--log", s.path(workName)+"/runc.log", "--log-format", "text", // ours, not the engine's
		"restore", "--detach", "--no-subreaper", "--bundle", inv.bundle,
		"--image-path", req.CheckpointDir, "--work-path", s.path(workName))
	if req.Options.ManageCgroup != "" {
		args = append(args, "--manage-cgroups-mode", req.Options.ManageCgroup)
	}
	if inv.noPivot {
		args = append(args, "--no-pivot")
	}
	cmd, err := runcCommand(append(args, s.id)...)
	if err != nil {
		return err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start runc restore: %w", err)
	}
	s.timeline.done("supervisor")
	s.runc = cmd
	go func() {
		s.runcErr = cmd.Wait()
		close(s.runcExited)
	}()
	return nil
}

// awaitHook waits until CRIU has forked the clone's first task and runc has called our hook with its pid.
func (s *supervision) awaitHook() (call, error) {
	deadline := time.NewTimer(s.timeout)
	defer deadline.Stop()
	for {
		select {
		case k := <-s.calls:
			if k.Command != "hook" {
				k.reply(errors.New("the clone is not created yet"))
				continue
			}
			fd, err := unix.PidfdOpen(k.Pid, 0)
			if err != nil {
				k.conn.Close()
				return k, fmt.Errorf("first task %d: %w", k.Pid, err)
			}
			s.task = fd
			if err := s.writeTask(k.Pid); err != nil {
				k.conn.Close()
				return k, err
			}
			s.watchCRIU(k.Pid)
			return k, nil
		case <-s.runcExited:
			return call{}, s.explainExit()
		case <-deadline.C:
			return call{}, fmt.Errorf("the restore did not begin within %s", s.timeout)
		}
	}
}

// awaitStart keeps the clone waiting in its hook until start or kill decides. There is no deadline: a created container
// may wait as long as the engine likes.
func (s *supervision) awaitStart(hook call) {
	for {
		select {
		case k := <-s.calls:
			switch k.Command {
			case "start":
				s.timeline.done("network")
				k.reply(s.release(hook))
				return
			case "abort":
				hook.conn.Close()
				k.reply(s.fail(nil))
				return
			default:
				k.reply(fmt.Errorf("unknown command %q", k.Command))
			}
		case <-s.runcExited:
			s.noteError(s.fail(s.explainExit())) // for start
			return
		}
	}
}

// release lets the clone run, and returns when it does or when the restore has failed.
func (s *supervision) release(hook call) error {
	hook.reply(nil)
	deadline := time.NewTimer(s.timeout)
	defer deadline.Stop()
	for {
		select {
		case k := <-s.calls:
			if k.Command != "abort" {
				k.reply(errors.New("the clone is being restored"))
				continue
			}
			err := s.fail(errors.New("the clone was killed while it was restored"))
			k.reply(nil)
			return err
		case <-s.runcExited:
			if s.runcErr != nil {
				return s.fail(s.explainExit())
			}
			s.timeline.done("memory")
			return s.addSteps(s.timeline.steps)
		case <-deadline.C:
			return s.fail(fmt.Errorf("the restore was not done within %s", s.timeout))
		}
	}
}

// abortGrace is how long runc may take to undo a failed restore by itself.
const abortGrace = 5 * time.Second

// fail ends everything that belongs to the restore and returns err. The first task goes first: CRIU then gives up, and
// runc cleans up after both.
func (s *supervision) fail(err error) error {
	if s.task > 0 {
		_ = unix.PidfdSendSignal(s.task, unix.SIGKILL, nil, 0) // ESRCH: gone, as it should be
	}
	select {
	case <-s.runcExited:
	case <-time.After(abortGrace):
		_ = unix.Kill(-s.runc.Process.Pid, unix.SIGKILL)
		<-s.runcExited
	}
	if s.criu > 0 { // without runc it waits for ever for tasks that are not its children
		_ = unix.PidfdSendSignal(s.criu, unix.SIGKILL, nil, 0)
	}
	return err
}

// explainExit says why runc ended. When somebody has killed it or CRIU, the errors in CRIU's log are but consequences.
func (s *supervision) explainExit() error {
	var exit *exec.ExitError
	switch {
	case s.criuDied.Load():
		return errors.New("CRIU was killed; if the kernel's out-of-memory killer did it, dmesg says so")
	case s.runcErr == nil:
		return errors.New("runc restore ended before the clone was released")
	case errors.As(s.runcErr, &exit) && exit.ExitCode() < 0:
		return fmt.Errorf("runc restore: %w", s.runcErr)
	default:
		return s.explain(restoreLog, fmt.Errorf("runc restore: %w%s", s.runcErr, lastLine(s.path(workName)+"/runc.log")))
	}
}
