package pages

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// children are the address spaces of processes that the app has started meanwhile. One thread serves all of them: an app may start
// thousands.
type children struct {
	come int // eventfd: there are new ones

	mu      sync.Mutex
	list    []*space // that are new
	started bool
}

// sweepChildren is how often all of them are asked whether they are still there.
const sweepChildren = 100 * time.Millisecond

// add takes a child, and reports whether it is the first: serve is to be called then.
func (c *children) add(s *space) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, s)
	_, _ = unix.Write(c.come, binary.NativeEndian.AppendUint64(nil, 1))
	first, c.started = !c.started, true
	return first
}

// serve answers the faults of all children, and follows what they do to their memory, until the server ends. wakeup says when.
func (c *children) serve(ctx context.Context, wakeup int) (err error) {
	runtime.LockOSThread() // as space.serve does
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), serveNice)
	var served []*space
	defer func() {
		for _, s := range append(served, c.take()...) {
			s.close(err)
		}
	}()
	for swept := time.Now(); ; {
		served = append(served, c.take()...)
		if time.Since(swept) > sweepChildren {
			swept, served = time.Now(), closeEnded(served)
		}
		fds := []unix.PollFd{{Fd: int32(wakeup), Events: unix.POLLIN}, {Fd: int32(c.come), Events: unix.POLLIN}}
		for _, s := range served {
			fds = append(fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
		}
		if _, err := unix.Poll(fds, int(sweepChildren/time.Millisecond)); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("userfaultfd: poll: %w", err)
		} else if err != nil {
			continue
		}
		if fds[0].Revents != 0 {
			return nil
		}
		for i, s := range served {
			if fds[i+2].Revents&unix.POLLIN == 0 {
				continue
			}
			if err := s.attend(ctx); err != nil {
				return err
			}
		}
	}
}

// take returns those that have come since.
func (c *children) take() (list []*space) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if list = c.list; len(list) > 0 {
		_, _ = unix.Read(c.come, make([]byte, 8))
	}
	c.list = nil
	return list
}

// closeEnded closes those whose process has ended, and returns the others.
func closeEnded(list []*space) []*space {
	var left []*space
	for _, s := range list {
		if s.fd.alive() {
			left = append(left, s)
			continue
		}
		s.close(nil)
	}
	return left
}
