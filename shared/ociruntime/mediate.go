package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// mediate puts the supervisor between runc and the CRIU that a shim is about to become: it hears how far the restore is,
// and holds it up where the clone must not go on yet.
func (s *supervision) mediate(k call) {
	m := &mediator{supervision: s, restored: s.restored, runc: k.socket, criu: -1}
	m.settled, m.settle = context.WithCancel(context.Background())
	if err := m.begin(k); err != nil {
		k.reply(err)
		m.close()
	}
}

// begin serves runc's first message itself, if it asks for the version, or lets the shim become CRIU.
func (m *mediator) begin(k call) error {
	first, _, err := receive(m.runc)
	if err != nil {
		return fmt.Errorf("message of runc to CRIU: %w", err)
	}
	if version, ok := answerVersion(first); ok {
		if err := unix.Sendmsg(m.runc, version, nil, nil, unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("answer to runc: %w", err)
		}
		err := sendJSON(k.conn, answer{Served: true}, -1)
		k.conn.Close()
		m.close()
		return err
	}
	if first, err = m.amend(first); err != nil {
		return err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("connection to CRIU: %w", err)
	}
	defer unix.Close(fds[1])
	m.criu = fds[0]
	if err := unix.Sendmsg(m.criu, first, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("order to CRIU: %w", err)
	}
	process, err := unix.PidfdOpen(k.Pid, 0)
	if err != nil {
		return fmt.Errorf("CRIU: process %d: %w", k.Pid, err)
	}
	if err := sendJSON(k.conn, answer{}, fds[1]); err != nil {
		_ = unix.Close(process)
		return fmt.Errorf("shim of CRIU: %w", err)
	}
	k.conn.Close()
	m.criuProcess.set(process)
	go m.run()
	go m.watch(process)
	return nil
}

// answerVersion answers runc's question for CRIU's version, if it is one and the answer is known: starting CRIU for that
// takes longer than most of what it does in a restore.
func answerVersion(b []byte) ([]byte, bool) {
	var req rpc.CriuReq
	if err := req.UnmarshalVT(b); err != nil || req.GetType() != rpc.CriuReqType_VERSION {
		return nil, false
	}
	host, err := criu.HostInfo(context.Background())
	if err != nil {
		return nil, false
	}
	var v rpc.CriuVersion
	for i, field := range strings.SplitN(host.CRIU, ".", 3) {
		n, err := strconv.ParseInt(field, 10, 32)
		if err != nil {
			return nil, false
		}
		number := int32(n)
		*[]**int32{&v.MajorNumber, &v.MinorNumber, &v.Sublevel}[i] = &number
	}
	if v.MinorNumber == nil {
		return nil, false
	}
	ok := true
	answer, err := (&rpc.CriuResp{Type: req.Type, Success: &ok, Version: &v}).MarshalVT()
	return answer, err == nil
}

// Points of a restore at which CRIU asks whether it may go on (criu/action-scripts.c), by what comes next.
const (
	mountsNext = "setup-namespaces"      // the first task is there, and nothing else
	filesNext  = "post-setup-namespaces" // the mounts are there
	resumeNext = "pre-resume"            // everything is there, and nothing has run
)

// mediator relays the messages of one CRIU (criu's images/rpc.proto): runc asks, CRIU notifies of its progress and waits
// for an answer each time, and replies in the end.
type mediator struct {
	*supervision
	restored   chan struct{}
	runc, criu int             // connections
	hold       string          // the point at which the clone is held up
	own        own             // is known when CRIU has its order
	settled    context.Context // ends when CRIU has said what came of the restore, and with the conversation
	settle     context.CancelFunc
	files      []*os.File
}

func (m *mediator) run() {
	defer m.close()
	m.hold = m.holdAt() // while CRIU starts
	for {
		b, oob, err := receive(m.criu)
		if err != nil {
			m.criuDied.Store(m.settled.Err() == nil) // the connection ends only with the CRIU that owes a reply
			return
		}
		if !m.notice(b) {
			return
		}
		if err := unix.Sendmsg(m.runc, b, oob, nil, unix.MSG_NOSIGNAL); err != nil {
			return
		}
		if b, oob, err = receive(m.runc); err != nil {
			return // it has what it wants, or has given up
		}
		if err := unix.Sendmsg(m.criu, b, oob, nil, unix.MSG_NOSIGNAL); err != nil {
			return
		}
	}
}

// holdAt decides how far the restore goes before the engine has wired the network: to the end, if nothing in it needs the
// network and connections can be refused meanwhile.
func (m *mediator) holdAt() string {
	hooks := len(m.request.AfterRestore) > 0
	if m.order.networkFirst && !hooks {
		return filesNext
	}
	var err error
	if m.refusal, err = m.refuse(hooks); err != nil || m.order.networkFirst {
		return filesNext // in the first case, an old kernel; `criu-docker doctor` says so
	}
	return resumeNext
}

// amend completes the order to restore. The directories are given as descriptors of the process that holds the connection,
// which is this one.
func (m *mediator) amend(b []byte) ([]byte, error) {
	var req rpc.CriuReq
	if err := req.UnmarshalVT(b); err != nil {
		return nil, fmt.Errorf("message of runc to CRIU: %w", err)
	}
	if req.GetType() != rpc.CriuReqType_RESTORE {
		return b, nil
	}
	select {
	case m.own = <-m.images:
		m.own.cgroups.correct(req.Opts)
	case <-m.failed:
		return nil, errors.New("the restore has failed")
	}
	for _, dir := range []struct {
		path string
		fd   **int32
	}{{imagesDir(m.request.CheckpointDir), &req.Opts.ImagesDirFd}, {m.path(workName), &req.Opts.WorkDirFd}} {
		f, err := os.Open(dir.path)
		if err != nil {
			return nil, err
		}
		m.files = append(m.files, f)
		fd := int32(f.Fd())
		*dir.fd = &fd
	}
	req.Opts.LazyPages = &m.order.lazy
	return req.MarshalVT()
}

// notice heeds what CRIU says of its progress, and returns when it may go on; false if it may not.
func (m *mediator) notice(b []byte) bool {
	var resp rpc.CriuResp
	if err := resp.UnmarshalVT(b); err != nil || resp.GetType() != rpc.CriuReqType_NOTIFY {
		m.settle()
		return true // runc's to judge
	}
	script := resp.GetNotify().GetScript()
	switch script {
	case mountsNext:
		m.forked <- int(resp.GetNotify().GetPid())
	case resumeNext:
		if err := m.setOOMScores(m.own.oomScore); err != nil {
			m.unlike <- err
			<-m.failed
			return false
		}
		close(m.restored)
	}
	return script != m.hold || m.awaitRelease()
}

func (m *mediator) awaitRelease() bool {
	select {
	case <-m.released:
		return true
	case <-m.failed:
		return false
	}
}

// watch ends the conversation if CRIU dies over it (the kernel's out-of-memory killer may choose it). Nothing else would:
// CRIU's children hold their end of the connection.
func (m *mediator) watch(process int) {
	defer m.criuProcess.close()
	if err := awaitExit(process); err != nil {
		return
	}
	select {
	case <-m.settled.Done():
	case <-time.After(replyGrace):
		m.criuDied.Store(true)
		_ = unix.Shutdown(m.criu, unix.SHUT_RDWR)
	}
}

// replyGrace is how long the reply of a CRIU that has ended may take to be read, on a busy machine too.
const replyGrace = 2 * time.Second

// pidfd is a process that may be signalled while another goroutine waits for its end.
type pidfd struct {
	mu sync.Mutex
	fd int // 0 if there is none
}

func (p *pidfd) set(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fd = fd
}

func (p *pidfd) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd > 0 {
		_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0) // ESRCH: gone, as it should be
	}
}

func (p *pidfd) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.Close(p.fd)
	p.fd = 0
}

func (m *mediator) close() {
	m.settle()
	_ = unix.Close(m.runc)
	if m.criu >= 0 {
		_ = unix.Close(m.criu)
	}
	for _, f := range m.files {
		f.Close()
	}
}

// receive receives one message with its descriptors; io.EOF means that the other end is closed.
func receive(socket int) (b, oob []byte, err error) {
	const room = 40 << 10 // what runc takes at most
	b, oob = make([]byte, room), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, nil, err
		case n == 0:
			return nil, nil, io.EOF
		default:
			return b[:n], oob[:oobn], nil
		}
	}
}

// awaitExit returns when the process of a pidfd has ended.
func awaitExit(pidfd int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
