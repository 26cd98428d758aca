package pages

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says what a message is about.
type Kind string

// What supervisor and server say to each other.
const (
	KindTask     Kind = "task"     // carries a userfaultfd: from the supervisor of Task, from the server of a child of the app's
	KindFinished Kind = "finished" // CRIU has restored all processes
	KindReleased Kind = "released" // the app runs; carries a pidfd of its first task. Before that, the supervisor's death ends the server
	KindEnded    Kind = "ended"    // the clone has
	KindDone     Kind = "done"     // nothing is missing any more
	KindFailed   Kind = "failed"   // Error says why the clone can't go on
)

// Message is one message between a supervisor and its page server.
type Message struct {
	Kind  Kind   `json:"kind"`
	Task  int    `json:"task,omitempty"` // pid in the clone's own namespace, as in the names of CRIU's images
	Error string `json:"error,omitempty"`
}

// maxMessage bounds an encoded message.
const maxMessage = 16 << 10

// Conn is an end of the connection between a supervisor and its page server.
type Conn struct {
	fd   int
	once sync.Once
}

// Pipe returns the two ends of a connection; the second is for a child process.
func Pipe() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("page server: socketpair: %w", err)
	}
	return NewConn(fds[0]), os.NewFile(uintptr(fds[1]), "pages"), nil
}

// NewConn takes over a descriptor.
func NewConn(fd int) *Conn {
	unix.CloseOnExec(fd)
	return &Conn{fd: fd}
}

// Close ends the connection; a Receive that waits returns io.EOF.
func (c *Conn) Close() {
	c.once.Do(func() {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
		_ = unix.Close(c.fd)
	})
}

func (c *Conn) closeRead() { _ = unix.Shutdown(c.fd, unix.SHUT_RD) }

// Send sends a message, and a descriptor with it unless that is -1.
func (c *Conn) Send(m Message, fd int) error {
	const (
		room   = 1 << 10 // for the rest of the message
		escape = 6       // bytes that a byte may become in JSON
	)
	m.Error = m.Error[:min(len(m.Error), (maxMessage-room)/escape)]
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(c.fd, b, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("page server: send %s: %w", m.Kind, err)
	}
	return nil
}

// Receive waits for a message; fd is -1 if it brings no descriptor. io.EOF means that the other end is gone.
func (c *Conn) Receive() (m Message, fd int, err error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	for {
		n, oobn, _, _, err = unix.Recvmsg(c.fd, b, oob, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR { //nolint:errorlint // the system call's own
			break
		}
	}
	switch {
	case err == nil && n == 0, errors.Is(err, unix.ECONNRESET): // the latter when it had not read everything
		return m, -1, io.EOF
	case err != nil:
		return m, -1, fmt.Errorf("page server: receive: %w", err)
	}
	fd, err = rights(oob[:oobn])
	if err == nil {
		err = json.Unmarshal(b[:n], &m)
	}
	if err == nil && m.Kind == KindTask && fd < 0 {
		err = fmt.Errorf("message %s brings no descriptor", m.Kind)
	}
	if err != nil {
		closeDescriptor(fd)
		return m, -1, fmt.Errorf("page server: receive: %w", err)
	}
	return m, fd, nil
}

// closeDescriptor closes what came with a message, if anything did.
func closeDescriptor(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// rights returns the descriptor in a control message, or -1.
func rights(oob []byte) (int, error) {
	if len(oob) == 0 {
		return -1, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, nil
}
