package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// window is how much is supplied at a fault, as far as it is missing: its neighbours are likely to be needed as well.
const window = 64 << 10

// space is the memory of one process. What the server knows about it and what it does to it go together under mu: an
// event is read, and so the app released to go on with what it did, only when no copy is under way.
type space struct {
	server *server
	fd     uffd

	turn    sync.Mutex // to lock mu next
	mu      sync.Mutex
	missing pending
	faults  []uint64 // addresses that threads of the app wait for
	gone    bool     // the process has ended, or serve has
}

func newSpace(s *server, fd uffd, missing pending) (*space, error) {
	if err := unix.SetNonblock(int(fd), true); err != nil {
		return nil, fmt.Errorf("userfaultfd: %w", err)
	}
	return &space{server: s, fd: fd, missing: missing}, nil
}

// windows are buffers for the content of a window.
var windows = sync.Pool{New: func() any { return new([window]byte) }}

// serveNice is the priority (nice(1)) of threads that answer faults: the app waits, and there is little to do. They are not
// unlocked, and end with it. A process that may not raise it goes on without.
const serveNice = -10

// lookAfter is how often a process is asked whether it is still there: its userfaultfd does not tell.
const lookAfter = 1000 // ms

// serve answers faults and follows what the app does to its memory, until the process has ended or the server does.
func (s *space) serve(ctx context.Context) (err error) {
	runtime.LockOSThread() // a thread that waits in poll(2) is awake sooner than a goroutine
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), serveNice)
	defer func() { s.close(err) }()
	for {
		fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}, {Fd: int32(s.server.wakeup), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, lookAfter)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("userfaultfd: poll: %w", err)
		case n == 0 && s.fd.alive():
			continue
		case n == 0, fds[1].Revents != 0, fds[0].Revents&unix.POLLERR != 0:
			return nil
		}
		if err := s.attend(ctx); err != nil {
			return err
		}
	}
}

// lock locks mu in turn: a mutex alone would be the filler's again and again while a fault waits.
func (s *space) lock() {
	s.turn.Lock()
	s.mu.Lock()
	s.turn.Unlock()
}

// close gives the descriptor back, unless the clone is to be killed first: see server.kill. What others still want to do to this
// memory, they needn't.
func (s *space) close(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	if err == nil && !s.server.failing.Load() && !s.server.orphaned.Load() {
		_ = unix.Close(int(s.fd))
	} else {
		s.server.keep(s.fd)
	}
	s.fd = -1
}

// ended reports whether the process has, as far as that can be told at once: the caller may be at work for this one.
func (s *space) ended() bool {
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	return s.gone
}

func (s *space) filled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone || s.missing.empty()
}

// end notes that the process has ended, as far as this server is concerned; the caller holds mu.
func (s *space) end() {
	s.gone, s.missing, s.faults = true, newPending(), nil
	s.server.change()
}

// errEvents: the app has changed its memory, and the server must learn how before it goes on.
var errEvents = errors.New("events to be read")

// attend reads the events that wait and answers the faults.
func (s *space) attend(ctx context.Context) error {
	return s.withEvents(ctx, func() error { return s.readEvents(ctx) })
}

// withEvents calls f under the lock until it need not read events first, and answers the faults that were among them:
// nothing else is told of those. f must bear to be called again.
func (s *space) withEvents(ctx context.Context, f func() error) error {
	s.lock()
	defer s.mu.Unlock()
	for {
		err := f()
		if err == nil {
			err = s.answer(ctx)
		}
		if !errors.Is(err, errEvents) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.awaitEvent()
		if err := s.readEvents(ctx); err != nil {
			return err
		}
	}
}

// awaitEvent gives the thread of the app that changes its memory the time to say so, or to be done.
func (s *space) awaitEvent() {
	const patience = 1 // ms
	s.mu.Unlock()
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, patience)
	s.lock()
}

func (s *space) readEvents(ctx context.Context) error {
	for !s.gone {
		events, err := s.fd.read()
		if err != nil || len(events) == 0 {
			return err
		}
		for _, m := range events {
			if err := s.event(ctx, m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *space) event(ctx context.Context, m message) error {
	switch m.event {
	case eventPagefault:
		s.faults = append(s.faults, m.b&^(pageSize-1))
	case eventFork:
		return s.server.forked(ctx, uffd(uint32(m.a)), s.missing.fork())
	case eventRemap:
		s.missing.move(m.a, m.b, m.c)
	case eventRemove, eventUnmap:
		s.missing.remove(m.a, m.b)
	default:
		return fmt.Errorf("userfaultfd: event %#x is unknown", m.event)
	}
	s.server.change()
	return nil
}

// answer supplies what threads of the app wait for.
func (s *space) answer(ctx context.Context) error {
	for len(s.faults) > 0 {
		addr := s.faults[0]
		if err := s.supply(ctx, addr); err != nil {
			return err
		}
		if len(s.faults) > 0 { // or the process has ended
			s.faults = s.faults[1:]
		}
	}
	return nil
}

// supply answers one fault. What has to be fetched first is supplied by another goroutine when it is there.
func (s *space) supply(ctx context.Context, addr uint64) error {
	r, ok := s.missing.at(addr)
	if !ok {
		return s.zero(addr)
	}
	server := s.server
	if rec := server.opts.Record; rec != nil {
		r = r.cut(addr, addr+pageSize)
		if err := rec.note(server.images.name(r.file), r.offset); err != nil {
			return fmt.Errorf("record of the pages that are needed: %w", err)
		}
		return s.bring(r)
	}
	r = r.cut(addr&^(window-1), addr&^(window-1)+window)
	if source := server.opts.Source; source != nil {
		if !source.Has(server.images.content(r)) {
			r = r.cut(addr, addr+pageSize)
		}
		if content := server.images.content(r); !source.Has(content) {
			server.group.Go(func() error {
				if err := source.Ensure(ctx, content); err != nil {
					return err
				}
				return s.again(ctx, addr)
			})
			return nil
		}
	}
	return s.bring(r)
}

// bring supplies a run of at most a window; the caller holds mu.
func (s *space) bring(r run) error {
	buf := windows.Get().(*[window]byte)
	defer windows.Put(buf)
	content := buf[:r.end-r.start]
	if err := s.server.images.read(r, content); err != nil {
		return err
	}
	return s.copy(r, content)
}

// again answers a fault whose content has been fetched.
func (s *space) again(ctx context.Context, addr uint64) error {
	s.mu.Lock()
	if !s.gone {
		s.faults = append(s.faults, addr)
	}
	s.mu.Unlock()
	return s.attend(ctx)
}

// isPassing tells of an error that passes: of a process that is changing its memory, or that may get no more until others
// have given some back or the kernel has killed one; a fault of its own would wait for that as well.
func isPassing(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOMEM) }

// zero answers a fault where nothing was frozen. The next pages are likely to be needed as well.
func (s *space) zero(addr uint64) error {
	end := addr&^(window-1) + window
	if r, ok := s.missing.first(addr); ok {
		end = min(end, r.start)
	}
	n, err := s.fd.zero(addr, end-addr)
	if errors.Is(err, unix.ENOENT) { // they are not of the same mapping
		n, err = s.fd.zero(addr, pageSize)
	}
	switch {
	case n > 0:
		return nil
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOENT): // it was supplied meanwhile; or taken away
		return s.fd.wake(addr)
	case err == nil, isPassing(err):
		return errEvents
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOSPC):
		s.end()
		return nil
	default:
		return fmt.Errorf("userfaultfd: zero page at %#x: %w", addr, err)
	}
}

// copy supplies a run with its content; the caller holds mu.
func (s *space) copy(r run, content []byte) error {
	length := uint64(len(content)) // of what is tried at a time
	for r.start < r.end {
		content = content[uint64(len(content))-(r.end-r.start):]
		part, zeros := uniform(content[:min(length, uint64(len(content)))])
		var n int
		var err error
		if zeros {
			n, err = s.fd.zero(r.start, part)
		} else {
			n, err = s.fd.copy(r.start, content[:part])
		}
		if n > 0 {
			s.missing.remove(r.start, r.start+uint64(n))
			r = r.cut(r.start+uint64(n), r.end)
			continue
		}
		switch {
		case err == nil, isPassing(err):
			return errEvents
		case errors.Is(err, unix.ENOENT) && part > pageSize:
			length = max(pageSize, part/2&^(pageSize-1)) // the app has divided the mapping
		case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOENT): // it was supplied meanwhile; or taken away
			s.missing.remove(r.start, r.start+pageSize)
			_ = s.fd.wake(r.start) // what fails here fails at the next page as well
			r = r.cut(r.start+pageSize, r.end)
		case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOSPC):
			s.end()
			return nil
		default:
			return fmt.Errorf("userfaultfd: copy to %#x: %w", r.start, err)
		}
	}
	if s.missing.empty() {
		s.server.change()
	}
	return nil
}

var zeroPage [pageSize]byte

// uniform returns how many bytes at the beginning of some pages are nothing but zeros, or in pages that are not.
func uniform(b []byte) (n uint64, zeros bool) {
	isZero := func(n uint64) bool { return bytes.Equal(b[n:n+pageSize], zeroPage[:]) }
	zeros = isZero(0)
	n = pageSize
	for n < uint64(len(b)) && isZero(n) == zeros {
		n += pageSize
	}
	return n, zeros
}
