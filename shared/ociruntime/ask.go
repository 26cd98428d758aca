package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// message is what start, kill and the shim say to the supervisor; a connection carries one and gets one answer.
type message struct {
	Command string `json:"command"`       // "start", "abort", "criu"
	Pid     int    `json:"pid,omitempty"` // criu: of the process that is to become CRIU
	socket  int    // criu: runc's connection to CRIU, which comes as a descriptor
}

// answer is the supervisor's.
type answer struct {
	Error  string `json:"error,omitempty"`
	Served bool   `json:"served,omitempty"` // criu: runc has its answer, and no CRIU is needed
	socket int    // criu: the connection that CRIU gets instead; -1 if none
}

// No restore is under way (any more).
var (
	errNoSupervisor   = errors.New("no supervisor")
	errSupervisorDied = errors.New("the supervisor of the restore died")
)

// ask sends one message to a container's supervisor and waits for the answer. The supervisor bounds the wait.
func (c container) ask(m message) error {
	_, err := ask(c.path(socketName), m, -1)
	return err
}

// ask sends m, and a descriptor with it unless that is -1, to the supervisor that listens at a socket.
func ask(socket string, m message, fd int) (answer, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errNoSupervisor, err)
	}
	defer conn.Close()
	if err := sendJSON(conn, m, fd); err != nil {
		return answer{}, fmt.Errorf("supervisor: %w", err)
	}
	a := answer{}
	if a.socket, err = receiveJSON(conn, &a); err != nil {
		return a, fmt.Errorf("%w: %w", errSupervisorDied, err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// sendJSON sends v in one piece, with a descriptor unless that is -1.
func sendJSON(conn *net.UnixConn, v any, fd int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	_, _, err = conn.WriteMsgUnix(b, rights, nil)
	return err
}

// receiveJSON receives what sendJSON sent; fd is -1 if no descriptor came.
func receiveJSON(conn *net.UnixConn, v any) (fd int, err error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return -1, err
	}
	fd = -1
	if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for _, m := range messages {
			if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
				fd = fds[0]
				unix.CloseOnExec(fd)
			}
		}
	}
	return fd, json.Unmarshal(b[:n], v)
}

// maxMessage bounds a message or answer; errors may carry some output.
const maxMessage = 64 << 10
