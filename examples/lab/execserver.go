package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// signalMessage is what an exec client sends while its command runs.
type signalMessage struct {
	Signal int `json:"signal"`
}

// hostRoot is where a node sees the host's files.
const hostRoot = "/host"

var execCounter atomic.Int64

// exec runs a client's command in the node and returns its exit code. The connection is the client's life line: when
// it breaks while the command runs, the command and everything it started is killed.
func (s *supervisor) exec(req request, files []*os.File, messages *json.Decoder) (int, error) {
	if len(files) != 3 || len(req.Argv) == 0 {
		return 0, errors.New("exec needs a command and three files")
	}
	group := newExecGroup(s.cgroup)
	defer group.remove()
	cmd := exec.Command(inNode(req.Argv[0]), req.Argv[1:]...)
	cmd.Args = append([]string{cmd.Args[0]}, mapTestFlags(hostRoot, req.Argv[1:])...)
	cmd.Env, cmd.Dir = req.Env, inNodeDir(req.Dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	cmd.SysProcAttr = group.attributes()
	pid, exited, err := s.start(cmd)
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", req.Argv[0], err)
	}
	group.pid = pid
	for _, f := range files {
		f.Close() // or the client's readers would wait for us
	}
	signals, gone := make(chan int), make(chan struct{})
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		defer close(gone)
		for {
			var m signalMessage
			if err := messages.Decode(&m); err != nil {
				return
			}
			select {
			case signals <- m.Signal:
			case <-finished:
				return
			}
		}
	}()
	for {
		select {
		case status := <-exited:
			if status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return status.ExitStatus(), nil
		case sig := <-signals:
			_ = unix.Kill(-pid, unix.Signal(sig))
		case <-gone:
			group.kill()
			<-exited
			return 0, io.ErrUnexpectedEOF
		}
	}
}

// execGroup holds a command and its descendants together: in a cgroup where the kernel can kill one as a whole,
// otherwise in a process group.
type execGroup struct {
	dir string
	fd  int
	pid int
}

func newExecGroup(parent string) *execGroup {
	g := &execGroup{fd: -1}
	root := unifiedRoot()
	if root == "" {
		return g
	}
	dir := filepath.Join(root, parent, fmt.Sprintf("exec-%d", execCounter.Add(1)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return g
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Rmdir(dir)
		return g
	}
	g.dir, g.fd = dir, fd
	return g
}

func (g *execGroup) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if g.fd >= 0 {
		attr.UseCgroupFD, attr.CgroupFD = true, g.fd
	}
	return attr
}

func (g *execGroup) kill() {
	if g.dir != "" && os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	_ = unix.Kill(-g.pid, unix.SIGKILL)
}

// remove gives the cgroup back. One in which a command left a daemon stays until the node goes down.
func (g *execGroup) remove() {
	if g.fd >= 0 {
		unix.Close(g.fd)
		_ = unix.Rmdir(g.dir)
	}
}

// inNode finds a program that was named by its path on the host, such as a test binary that go test has just built.
func inNode(program string) string {
	if filepath.IsAbs(program) {
		if _, err := os.Stat(program); err != nil {
			if _, err := os.Stat(hostRoot + program); err == nil {
				return hostRoot + program
			}
		}
	}
	return program
}

// inNodeDir maps the client's working directory, which is a directory of the host.
func inNodeDir(dir string) string {
	if _, err := os.Stat(hostRoot + dir); err == nil {
		return hostRoot + dir
	}
	return "/"
}

// mapTestFlags lets a test binary write the files that go test wants back, such as -test.testlogfile, which lie in
// directories of the host.
func mapTestFlags(host string, args []string) []string {
	mapped := make([]string, len(args))
	for i, a := range args {
		mapped[i] = a
		flag, path, ok := strings.Cut(a, "=")
		if !ok || !strings.HasPrefix(flag, "-test.") || !filepath.IsAbs(path) {
			continue
		}
		if _, err := os.Stat(filepath.Dir(path)); err == nil {
			continue
		}
		if _, err := os.Stat(filepath.Dir(host + path)); err == nil {
			mapped[i] = flag + "=" + host + path
		}
	}
	return mapped
}
