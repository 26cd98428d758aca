package ociruntime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/pages"
)

// lazySocketName is where CRIU looks for its lazy-pages daemon: in its work directory.
const lazySocketName = "lazy-pages.socket"

// pageServer is the page server of a lazy restore, and what the supervisor needs to outlive it: copies of the
// userfaultfds. They keep the kernel from supplying zeros when the server is gone.
type pageServer struct {
	cmd  *exec.Cmd
	conn *pages.Conn
	over chan error // gets nil when nothing is missing any more, or why the clone can't go on
	lazy int        // where CRIU connects; -1 when it has

	stopped sync.Once
	mu      sync.Mutex
	fds     []int
	compact int
}

// startPageServer starts the server, and takes CRIU's connection in its place.
func (s *supervision) startPageServer(self string) (*pageServer, error) {
	dir, err := os.Open(s.path(workName))
	if err != nil {
		return nil, fmt.Errorf("page server: %w", err)
	}
	defer dir.Close()
	lazy, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("page server: socket: %w", err)
	}
	// The directory's own path is too long for a socket's address.
	err = unix.Bind(lazy, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), lazySocketName)})
	if err == nil {
		err = unix.Listen(lazy, 1)
	}
	if err != nil {
		_ = unix.Close(lazy)
		return nil, fmt.Errorf("page server: %s: %w", lazySocketName, err)
	}
	conn, other, err := pages.Pipe()
	if err != nil {
		_ = unix.Close(lazy)
		return nil, err
	}
	defer other.Close()
	log, err := os.OpenFile(s.path(workName)+"/pages.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		_ = unix.Close(lazy)
		conn.Close()
		return nil, fmt.Errorf("page server: %w", err)
	}
	defer log.Close()
	p := &pageServer{conn: conn, lazy: lazy, over: make(chan error, 1)}
	p.cmd = exec.Command(filepath.Join(filepath.Dir(self), PagesName), s.id)
	if s.request.Source == nil {
		p.cmd.Path = self // see PagesName
	}
	p.cmd.ExtraFiles = []*os.File{other} // becomes pagesFd
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.request.Source != nil {
		p.cmd.Env = append(os.Environ(), s.request.Source.Env...)
	}
	if err := p.cmd.Start(); err != nil {
		_ = unix.Close(lazy)
		conn.Close()
		return nil, fmt.Errorf("start page server: %w", err)
	}
	go p.passOn()
	go p.listen()
	return p, nil
}

// ended returns a channel that gets how the server ended; nil, on which nothing ever comes, if there is none.
func (p *pageServer) ended() chan error {
	if p == nil {
		return nil
	}
	return p.over
}

// failure says what the end of the server means while the clone is being restored.
func (p *pageServer) failure(err error) error {
	if err == nil {
		err = errors.New("it ended before the clone ran")
	}
	return fmt.Errorf("page server: %w", err)
}

// done gives the userfaultfds back when nothing is missing any more: nothing answers for what the app touches first from now on, a
// page of zeros say.
func (p *pageServer) done() {
	p.over = nil
	p.stop()
}

// stop ends the server, if there is one, and gives the userfaultfds back. The clone must be gone, or have all its memory.
func (p *pageServer) stop() {
	if p != nil {
		p.stopped.Do(p.end)
	}
}

func (p *pageServer) end() {
	p.mu.Lock()
	if p.lazy >= 0 {
		_ = unix.Shutdown(p.lazy, unix.SHUT_RDWR)
	}
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // killed, as it should be
	p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range p.fds {
		_ = unix.Close(fd)
	}
	p.fds = nil
}

// passOn takes from CRIU what a lazy-pages daemon gets (criu/uffd.c): for each task its pid, which is negative for one
// that is dead, and its userfaultfd; and a word when all are restored.
func (p *pageServer) passOn() {
	defer p.closeLazy()
	criu, _, err := unix.Accept4(p.lazy, unix.SOCK_CLOEXEC)
	if err != nil {
		return // stopped, or CRIU failed before
	}
	defer unix.Close(criu)
	const restoreFinished = 0x52535446
	for {
		var word [4]byte
		if err := readFull(criu, word[:]); err != nil {
			return // CRIU has failed, and runc says so
		}
		number := int32(binary.NativeEndian.Uint32(word[:]))
		switch {
		case number == restoreFinished:
			if err := p.conn.Send(pages.Message{Kind: pages.KindFinished}, -1); err != nil {
				return // the server's end is noticed elsewhere
			}
			return
		case number < 0:
			continue
		}
		fd, err := readDescriptor(criu)
		if err != nil {
			return
		}
		p.keep(fd)
		if err := p.conn.Send(pages.Message{Kind: pages.KindTask, Task: int(number)}, fd); err != nil {
			return
		}
	}
}

// closeLazy closes the socket that CRIU connects to. Its number may be another descriptor's from then on.
func (p *pageServer) closeLazy() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Close(p.lazy)
	p.lazy = -1
}

func (p *pageServer) keep(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const few = 64
	if len(p.fds) >= max(p.compact, few) { // an app may start thousands of processes, most of which end soon
		p.fds = slices.DeleteFunc(p.fds, func(fd int) bool {
			ended := pages.Ended(fd)
			if ended {
				_ = unix.Close(fd)
			}
			return ended
		})
		p.compact = 2 * len(p.fds)
	}
	p.fds = append(p.fds, fd)
}

// listen takes what the server says until it has ended.
func (p *pageServer) listen() {
	err := func() error {
		for {
			m, fd, err := p.conn.Receive()
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET): // the latter if it had not read everything
				return errors.New("it was killed; if the kernel's out-of-memory killer did it, dmesg says so")
			case err != nil:
				return err
			case m.Kind == pages.KindTask:
				p.keep(fd)
			case m.Kind == pages.KindDone:
				return nil
			case m.Kind == pages.KindFailed:
				return errors.New(m.Error)
			}
		}
	}()
	p.over <- err
}

// tellReleased makes the page server answer for the clone, should the supervisor die.
func (s *supervision) tellReleased() {
	if s.pages != nil && s.pages.over != nil {
		_ = s.pages.conn.Send(pages.Message{Kind: pages.KindReleased}, s.task) // a server that is gone is noticed by seeThrough
	}
}

// seeThrough stays with a lazily restored clone until all of its memory is there. If that can't be, the clone is killed:
// half of its memory is none.
func (s *supervision) seeThrough() {
	defer s.pages.stop()
	if s.pages.over == nil {
		return
	}
	exited := make(chan struct{})
	go func() {
		if awaitExit(s.task) == nil {
			close(exited)
		}
	}()
	select {
	case err := <-s.pages.over:
		if err == nil {
			return
		}
		s.kill(fmt.Errorf("page server: %w", err))
		<-exited // and only then give the userfaultfds back
	case <-exited:
	}
}

// kill ends the clone, with a reason for its starter.
func (s *supervision) kill(reason error) {
	if r, err := s.run.ReadReport(s.id); err == nil {
		r.Lost = fmt.Sprintf("the clone was killed before all of its memory was there: %v", reason)
		_ = s.writeReport(r) // there is nothing else to report it to
	}
	if s.request.Snapshot != "" {
		_ = s.run.noteLoss(s.request.Snapshot, reason.Error()) // the next start may be lost like this one, and that is all
	}
	// In a process namespace of its own, all of the clone ends with the first task.
	_ = s.killCgroup()
	_ = unix.PidfdSendSignal(s.task, unix.SIGKILL, nil, 0)
}

func readFull(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		default:
			b = b[n:]
		}
	}
	return nil
}

// readDescriptor receives a descriptor, which comes with one byte.
func readDescriptor(socket int) (int, error) {
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return -1, errors.Join(errors.New("CRIU sent no descriptor"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.Join(errors.New("CRIU sent no descriptor"), err)
	}
	return fds[0], nil
}
