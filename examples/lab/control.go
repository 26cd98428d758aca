package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// request is the first message of a client on the control socket of a node.
type request struct {
	Op       string    `json:"op"`                 // status, services, restart, stop or exec
	Service  string    `json:"service,omitempty"`  // restart, stop
	Services []service `json:"services,omitempty"` // services: all that shall run
	Argv     []string  `json:"argv,omitempty"`     // exec
	Env      []string  `json:"env,omitempty"`
	Dir      string    `json:"dir,omitempty"`
}

// reply is the only answer to most requests, and the last one to exec.
type reply struct {
	Error string     `json:"error,omitempty"`
	State *nodeState `json:"state,omitempty"`
	Exit  int        `json:"exit"`
}

type nodeState struct {
	Spec     nodeSpec       `json:"spec"`
	Services []serviceState `json:"services"`
}

// controller answers the control socket inside the node.
type controller struct {
	spec       nodeSpec
	supervisor *supervisor // of the commands that clients run
	services   serviceKeeper
}

// serviceKeeper keeps the services of a node running: its init, or systemd.
type serviceKeeper interface {
	states() []serviceState
	ensure(ctx context.Context, wanted []service) error
	restart(ctx context.Context, name string) error
	stop(ctx context.Context, name string) error
}

func (c *controller) serve(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			slog.Error("control socket", "err", err)
			return
		}
		go c.handle(conn)
	}
}

func (c *controller) handle(conn *net.UnixConn) {
	defer conn.Close()
	files, in, err := receive(conn)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		slog.Warn("control socket", "err", err)
		return
	}
	decoder := json.NewDecoder(in)
	var req request
	if err := decoder.Decode(&req); err != nil {
		slog.Warn("control socket", "err", err)
		return
	}
	patience := 30 * time.Second
	if c.spec.VM != "" {
		patience = vmPatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var rep reply
	switch req.Op {
	case "status":
		rep.State = &nodeState{Spec: c.spec, Services: c.services.states()}
	case "services":
		err = c.services.ensure(ctx, req.Services)
	case "restart":
		err = c.services.restart(ctx, req.Service)
	case "stop":
		err = c.services.stop(ctx, req.Service)
	case "exec":
		rep.Exit, err = c.supervisor.exec(req, files, decoder)
	default:
		err = fmt.Errorf("unknown request %q", req.Op)
	}
	if err != nil {
		rep.Error = err.Error()
	}
	_ = json.NewEncoder(conn).Encode(rep) // a client that is gone needs no answer
}

// receive reads the first bytes of a connection and the files that come with them.
func receive(conn *net.UnixConn) ([]*os.File, io.Reader, error) {
	buf, oob := make([]byte, 4096), make([]byte, 1024)
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, nil, fmt.Errorf("control message: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, nil, fmt.Errorf("control message: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), fmt.Sprintf("fd %d of the client", len(files))))
		}
	}
	return files, io.MultiReader(bytes.NewReader(buf[:n]), conn), nil
}

// dial connects to the node's init.
func (n *Node) dial(ctx context.Context) (net.Conn, error) {
	if n.isVM() {
		return n.dialVM(ctx, vmSocket)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(n.Dir, "init.sock"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("node %s does not run (%s): bring it up with lab up", n.Name, n.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.Name, err)
	}
	return conn, nil
}

// call sends a request to the init of a node in namespaces; the files become the process's standard streams.
func (n *Node) call(ctx context.Context, req request, files ...*os.File) (*net.UnixConn, error) {
	conn, err := n.dial(ctx)
	if err != nil {
		return nil, err
	}
	unixConn := conn.(*net.UnixConn)
	b, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	// The files travel with the first byte; the rest may be longer than one message holds.
	if _, _, err := unixConn.WriteMsgUnix(b[:1], oob, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("send request to node %s: %w", n.Name, err), conn.Close())
	}
	if _, err := unixConn.Write(b[1:]); err != nil {
		return nil, errors.Join(fmt.Errorf("send request to node %s: %w", n.Name, err), conn.Close())
	}
	return unixConn, nil
}

// ask sends a request that has one answer.
func (n *Node) ask(ctx context.Context, req request) (reply, error) {
	var rep reply
	conn, err := n.dial(ctx)
	if err != nil {
		return rep, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return rep, fmt.Errorf("send request to node %s: %w", n.Name, err)
	}
	if err := json.NewDecoder(conn).Decode(&rep); err != nil {
		return rep, fmt.Errorf("answer of node %s: %w", n.Name, err)
	}
	if rep.Error != "" {
		return rep, fmt.Errorf("node %s: %s", n.Name, rep.Error)
	}
	return rep, nil
}

func (n *Node) state(ctx context.Context) (*nodeState, error) {
	patience := 5 * time.Second
	if n.isVM() {
		patience = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	rep, err := n.ask(ctx, request{Op: "status"})
	if err != nil {
		return nil, err
	}
	return rep.State, nil
}
