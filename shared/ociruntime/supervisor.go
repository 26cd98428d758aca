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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/pages"
)

// supervise runs the restore of one clone, from create to the end of start, and the page server of a lazy one until
// nothing of the clone's memory is missing any more.
func supervise(inv invocation) {
	// runc dies with the thread that started it (Pdeathsig), so this goroutine keeps its own.
	runtime.LockOSThread()
	c := container{run: DefaultRunDir, id: inv.id}
	ready := os.NewFile(readyFd, "ready")
	unix.CloseOnExec(readyFd)
	if inv.turn {
		inv.order.turn = os.NewFile(turnFd, "turn")
		unix.CloseOnExec(turnFd)
	}

	if err := c.supervise(inv, ready); err != nil {
		_ = json.NewEncoder(ready).Encode(readyMessage{Error: err.Error()}) // create reports it
	}
}

// supervise returns an error if the restore has failed before create was told of the clone's first task.
func (c container) supervise(inv invocation, ready *os.File) error {
	req, err := c.run.ReadRequest(c.id)
	if err != nil {
		return err
	}
	s := &supervision{
		container: c, request: req, order: inv.order, timeline: newTimeline(), timeout: inv.order.timeout, calls: make(chan call),
		forked: make(chan int, 1), restored: make(chan struct{}), released: make(chan struct{}), failed: make(chan struct{}), runcExited: make(chan struct{}),
		answered: make(chan struct{}), checked: make(chan error, 1), images: make(chan own, 1), unlike: make(chan error, 1),
		breakpointsSet: func() {},
	}
	if s.timeout == 0 {
		s.timeout = DefaultTimeout
	}
	if s.order.turn != nil {
		over := time.AfterFunc(s.timeout, s.endTurn) // an engine may let a created clone wait as long as it likes
		defer over.Stop()
	}
	defer s.close()
	go func() {
		own, err := makeImages(inv.bundle, req)
		if err != nil {
			s.unlike <- err
			return
		}
		s.moved = own.move.moved(req.Bound) // is read when CRIU has its order
		s.images <- own
		s.checked <- pages.Check(req.CheckpointDir, s.order.lazy, criu.HoldsHostname)
	}()
	breakpoints, expected := context.WithCancel(context.Background())
	defer expected()
	s.breakpointsSet = expected
	go expectBreakpoints(breakpoints)
	if err := s.begin(inv, ready); err != nil {
		return err
	}
	if err := s.awaitStart(inv); err != nil {
		if !errors.Is(err, errKilled) {
			s.noteError(err) // for start
		}
		return nil
	}
	s.endTurn()
	if s.pages != nil {
		s.seeThrough()
	}
	return nil
}

// endTurn lets the next restore of this machine begin.
func (s *supervision) endTurn() {
	if s.order.turn != nil {
		_ = s.order.turn.Close() // once or twice
	}
}

// supervision is the state of one restore.
type supervision struct {
	container
	request  Request
	order    order
	timeline *timeline
	timeout  time.Duration

	listener *net.UnixListener
	calls    chan call

	runc        *exec.Cmd
	runcExited  chan struct{} // closed when runc has ended, with runcErr
	runcErr     error
	reaping     sync.Mutex // runc is being waited for, or killed
	criuProcess pidfd
	criuDied    atomic.Bool // before runc, which is not as it should be

	forked   chan int      // gets the pid of the clone's first task
	restored chan struct{} // closed when all that is left to do is to let the clone run
	released chan struct{} // closed when it may, as far as the engine is concerned
	failed   chan struct{} // closed when it never will
	pid      int           // of the clone's first task
	task     int           // its pidfd; 0 before there is one
	refusal  *refusal      // of connections; nil if there is none. Set before forked gets the pid

	breakpointsSet context.CancelFunc // ends the wait for CRIU's breakpoints, see expectBreakpoints
	checked        chan error         // gets what was found of the checkpoint, once: nil if it is as it was fetched
	answered       chan struct{}      // closed when calls are not taken any more
	moved          moved              // sockets that have to do with addresses
	images         chan own           // gets a value when the images that CRIU restores from are made
	unlike         chan error         // gets why the clone can't be what its configuration says, if so

	pages *pageServer // of a lazy restore
}

// begin starts the restore and returns when create knows the clone's first task.
func (s *supervision) begin(inv invocation, ready *os.File) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), s.timeout, fmt.Errorf("the restore did not begin within %s", s.timeout))
	defer cancel()
	// First what a CRIU needs that calls.
	if err := s.run.makeSub(containersDir, s.id, workName); err != nil {
		return err
	}
	if err := s.listen(); err != nil {
		return err
	}
	err := s.startRestore(inv)
	if err == nil {
		err = s.awaitFork(ctx)
	}
	if err == nil {
		err = json.NewEncoder(ready).Encode(readyMessage{Pid: s.pid}) // or create is gone, and this will never be started
	}
	if err != nil {
		s.listener.Close()
		return s.fail(err)
	}
	return ready.Close()
}

// listen takes calls from now on.
func (s *supervision) listen() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path(socketName), Net: "unix"})
	if err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	s.listener = l
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				close(s.calls)
				return
			}
			s.take(conn)
		}
	}()
	return nil
}

// call is a message with the connection that waits for its answer.
type call struct {
	message
	conn *net.UnixConn
}

func (k call) reply(err error) {
	a := answer{}
	if err != nil {
		a.Error = err.Error()
	}
	_ = sendJSON(k.conn, a, -1) // a caller that is gone needs no answer
	k.conn.Close()
}

// take reads what a caller says. Callers are root's, write at once and need no deadline. One that comes when start has been
// answered gets none, as if it had come when the socket was gone: runc knows the clone by then.
func (s *supervision) take(conn *net.UnixConn) {
	k := call{conn: conn}
	var err error
	if k.socket, err = receiveJSON(conn, &k.message); err != nil {
		conn.Close()
		return
	}
	if k.Command == "criu" {
		s.mediate(k)
		return
	}
	select {
	case s.calls <- k:
	case <-s.answered:
		conn.Close()
	}
}

func (s *supervision) startRestore(inv invocation) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := s.run.installShim(self); err != nil {
		return err
	}
	if s.order.lazy {
		if s.pages, err = s.startPageServer(self); err != nil {
			return err
		}
	}
	args := append([]string{}, inv.global...)
	args = append(args, "--log", s.path(workName)+"/runc.log", "--log-format", "text", // ours, not the engine's
		"restore", "--detach", "--no-subreaper", "--bundle", inv.bundle,
		"--image-path", s.request.CheckpointDir, "--work-path", s.path(workName))
	if s.request.Options.ManageCgroup != "" {
		args = append(args, "--manage-cgroups-mode", s.request.Options.ManageCgroup)
	}
	if inv.noPivot {
		args = append(args, "--no-pivot")
	}
	cmd, err := runcCommand(append(args, s.id)...)
	if err != nil {
		return err
	}
	cmd.Env = s.shimEnviron()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start runc restore: %w", err)
	}
	s.timeline.done("supervisor")
	s.runc = cmd
	go func() {
		_ = waitExited(cmd.Process.Pid)
		s.reaping.Lock() // until then its process group can't be another's
		defer s.reaping.Unlock()
		s.runcErr = cmd.Wait()
		close(s.runcExited)
	}()
	return nil
}

// awaitFork waits until CRIU has forked the clone's first task.
func (s *supervision) awaitFork(ctx context.Context) error {
	for {
		select {
		case pid := <-s.forked:
			s.timeline.done(StepFork)
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return fmt.Errorf("first task %d: %w", pid, err)
			}
			s.pid, s.task = pid, fd
			return s.writeTask(pid)
		case k := <-s.calls:
			k.reply(errors.New("the clone is not created yet"))
		case <-s.runcExited:
			return s.explainExit()
		case err := <-s.unlike:
			return err
		case err := <-s.pages.ended():
			return s.pages.failure(err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitStart goes on with the restore as far as it may, until start or kill decides, and returns nil when the clone runs.
// There is no deadline before that: a created container may wait as long as the engine likes.
func (s *supervision) awaitStart(inv invocation) error {
	defer close(s.answered)
	defer s.breakpointsSet()
	defer s.listener.Close()
	for {
		select {
		case <-s.restored:
			s.noteRestored()
		case k, ok := <-s.calls:
			switch {
			case !ok:
				return s.fail(errors.New("the supervisor's socket is gone"))
			case k.Command == "start":
				select {
				case <-s.restored:
					s.noteRestored()
				default:
				}
				s.timeline.done("network")
				err := s.release(inv)
				k.reply(err)
				return err
			case k.Command == "abort":
				err := s.fail(fmt.Errorf("%w before it ran", errKilled))
				k.reply(nil)
				return err
			default:
				k.reply(fmt.Errorf("unknown command %q", k.Command))
			}
		case <-s.runcExited:
			return s.fail(s.explainExit())
		case err := <-s.unlike:
			return s.fail(err)
		case err := <-s.pages.ended():
			if err == nil {
				s.pages.done() // a small clone misses nothing any more before the engine lets it run
				continue
			}
			return s.fail(s.pages.failure(err))
		}
	}
}

func (s *supervision) noteRestored() {
	s.timeline.done("restore")
	s.breakpointsSet()
	s.restored = nil
}

// release lets the clone run, and returns when it does and has been told so, or when the restore has failed.
func (s *supervision) release(inv invocation) error {
	if err := <-s.checked; err != nil { // the disk bounds the wait, as it does CRIU's
		return s.fail(err)
	}
	hooks := len(s.request.AfterRestore) > 0
	if !hooks {
		if err := s.letThrough(); err != nil {
			return s.fail(err)
		}
	}
	if err := s.checkAddresses(s.moved); err != nil {
		return s.fail(err)
	}
	close(s.released)
	deadline := time.NewTimer(s.timeout)
	defer deadline.Stop()
	runcExited := s.runcExited
	var told <-chan error
	for {
		select {
		case k, ok := <-s.calls:
			if !ok {
				return s.fail(errors.New("the supervisor's socket is gone"))
			}
			if k.Command != "abort" {
				k.reply(errors.New("the clone is being restored"))
				continue
			}
			err := s.fail(fmt.Errorf("%w while it was restored", errKilled))
			k.reply(nil)
			return err
		case <-s.restored:
			s.noteRestored()
		case <-runcExited:
			if s.runcErr != nil {
				return s.fail(s.explainExit())
			}
			s.timeline.done("resume")
			runcExited, told = nil, s.runHooks(inv)
		case err := <-told:
			if err == nil {
				err = s.letThrough()
			}
			if err != nil {
				return s.fail(err)
			}
			if hooks {
				s.timeline.done("hooks")
			}
			if err := s.settlePlaced(); err != nil {
				return s.fail(err)
			}
			s.tellReleased() // before start is answered: until then, the engine ends a clone whose supervisor has died
			return s.addSteps(s.timeline.steps)
		case err := <-s.unlike:
			return s.fail(err)
		case err := <-s.pages.ended():
			if err == nil {
				s.pages.done() // so soon, or while hooks run
				continue
			}
			return s.fail(s.pages.failure(err))
		case <-deadline.C:
			return s.fail(fmt.Errorf("the restore was not done within %s", s.timeout))
		}
	}
}

// letThrough ends the refusal of connections, if there is one.
func (s *supervision) letThrough() error {
	if err := s.refusal.end(); err != nil {
		return fmt.Errorf("let connections through: %w", err)
	}
	s.refusal = nil
	return nil
}

// errKilled ends a restore that was ended on purpose: it says nothing about the next one.
var errKilled = errors.New("the clone was killed")

// abortGrace is how long runc may take to undo a failed restore by itself.
const abortGrace = 5 * time.Second

// fail ends everything that belongs to the restore and returns err. The first task goes first: CRIU then gives up, and
// runc cleans up after both.
func (s *supervision) fail(err error) error {
	close(s.failed)
	if s.task > 0 {
		_ = unix.PidfdSendSignal(s.task, unix.SIGKILL, nil, 0) // ESRCH: gone, as it should be
	}
	if s.runc != nil {
		select {
		case <-s.runcExited:
		case <-time.After(abortGrace):
			s.killRunc()
			<-s.runcExited
		}
	}
	s.criuProcess.kill() // without runc it waits for ever for tasks that it traces, and they for it
	s.pages.stop()
	return err
}

// killRunc kills runc and its children, unless it has been waited for: then its pid may be another process's.
func (s *supervision) killRunc() {
	s.reaping.Lock()
	defer s.reaping.Unlock()
	select {
	case <-s.runcExited:
	default:
		_ = unix.Kill(-s.runc.Process.Pid, unix.SIGKILL)
	}
}

func (s *supervision) close() {
	if s.task > 0 {
		_ = unix.Close(s.task)
	}
	_ = s.refusal.end()
}

// explainExit says why runc ended. When it or CRIU was killed, the errors in CRIU's log are only consequences.
func (s *supervision) explainExit() error {
	select {
	case err := <-s.unlike:
		return err
	default:
	}
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
