package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// criuGrace is how long runc may outlive CRIU; it has little to do after it.
const criuGrace = 2 * time.Second

// watchCRIU ends runc if CRIU dies before it (the kernel's out-of-memory killer may choose it): runc would wait for ever,
// since CRIU's children hold the socket that it reads from. Where the kernel can't tell who CRIU is, the timeout remains.
func (s *supervision) watchCRIU(firstTask int) {
	runc := s.runc.Process.Pid
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", runc))
	for _, children := range threads {
		list, _ := os.ReadFile(children)
		for _, field := range strings.Fields(string(list)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid == firstTask {
				continue // a child of runc's too, which CRIU has forked and named like itself
			}
			if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err != nil || string(comm) != "criu\n" {
				continue
			}
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				s.criu = fd
				go s.awaitCRIU(fd)
			}
		}
	}
}

// awaitCRIU ends with CRIU, which ends with the restore.
func (s *supervision) awaitCRIU(fd int) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			break
		} else if !errors.Is(err, unix.EINTR) {
			return
		}
	}
	select {
	case <-s.runcExited:
	case <-time.After(criuGrace):
		s.criuDied.Store(true)
		_ = unix.Kill(-s.runc.Process.Pid, unix.SIGKILL)
	}
}
