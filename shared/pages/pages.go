// Package pages serves the memory of clones that run before all of it is there. CRIU restores such a clone without the
// pages that can be supplied later and hands out a userfaultfd for each of its processes; the server answers the faults
// that the app meets, fills in what the app is known to need first, and then everything else. When nothing is missing any
// more it is done, and the clone's memory is like any other.
//
// The server is a process of its own. The supervisor of the restore (package ociruntime) started it, passes the
// descriptors on, and keeps copies of them: a userfaultfd that no process holds lets the kernel supply zeros, so that the death
// of the server alone never does that, and the supervisor has the time to kill the clone.
package pages

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const pageSize = 4096

// Range is a part of a page image.
type Range struct {
	File   string
	Offset int64 // bytes, a multiple of the page size
	Length int64
}

// Source brings the content of page images that are not whole yet. It must be safe for concurrent use.
type Source interface {
	// Has reports whether a range is in its file.
	Has(r Range) bool
	// Ensure returns when a range is in its file, checked against its digest.
	Ensure(ctx context.Context, r Range) error
	// FetchAll brings everything that is missing, what the app needs first before the rest.
	FetchAll(ctx context.Context) error
}

// Options say what to serve.
type Options struct {
	Dir    string  // the clone's checkpoint
	Source Source  // nil if the page images are whole
	First  []Range // what the app needs first, in the order in which it does
	// Record, if set, gets what the app needs, page by page, in this order; nothing is filled in that it did not ask for.
	Record *Recorder
}

// Serve serves the clone whose supervisor is at the other end of conn, until none of its memory is missing any more. It
// returns an error when the clone can't go on: its supervisor was told why and kills it.
func Serve(ctx context.Context, conn *Conn, opts Options) error {
	s := &server{conn: conn, opts: opts, clone: -1, finished: make(chan struct{}), changed: make(chan struct{}, 1)}
	var err error
	if s.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("page server: eventfd: %w", err)
	}
	defer unix.Close(s.wakeup)
	if s.children.come, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("page server: eventfd: %w", err)
	}
	defer unix.Close(s.children.come)
	defer s.images.close()
	defer s.closeKept()
	if opts.Source == nil {
		if s.images.sums, err = readSums(opts.Dir); err != nil {
			return errors.Join(err, conn.Send(Message{Kind: KindFailed, Error: err.Error()}, -1))
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	s.group = g
	fetched := make(chan struct{})
	if opts.Source != nil {
		g.Go(func() error {
			defer close(fetched)
			return opts.Source.FetchAll(ctx)
		})
	} else {
		close(fetched)
	}
	g.Go(func() error { return s.receive(ctx) })
	g.Go(func() error {
		err := s.fill(ctx)
		if err == nil {
			err = s.awaitFilled(ctx)
		}
		if err != nil {
			return err
		}
		select {
		case <-fetched:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return errDone
	})
	g.Go(func() error {
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, errDone) && !errors.Is(cause, errAbandoned) {
			s.failing.Store(true)
		}
		s.interrupt()
		return nil
	})
	err = g.Wait()
	if errors.Is(err, errDone) {
		return s.tell(Message{Kind: KindDone}, -1)
	}
	if s.orphaned.Load() {
		return errors.Join(err, s.kill())
	}
	serr := conn.Send(Message{Kind: KindFailed, Error: err.Error()}, -1)
	return errors.Join(err, serr, s.seeKilled(serr == nil))
}

// errDone ends the server's goroutines when nothing is missing any more.
var errDone = errors.New("done")

// errAbandoned: the restore has failed, or the clone has ended.
var errAbandoned = errors.New("the clone is gone")

// server is the service of one clone.
type server struct {
	conn   *Conn
	opts   Options
	group  *errgroup.Group
	images images
	wakeup int // eventfd that ends all waiting

	finished chan struct{} // closed when CRIU has restored all processes
	changed  chan struct{} // gets something when an address space has changed

	clone    int         // pidfd of the clone's first task, once it runs; -1 before
	orphaned atomic.Bool // the supervisor is dead, and no other process holds the userfaultfds
	failing  atomic.Bool // the clone can't go on; the userfaultfds stay open until it is dead

	children children

	mu      sync.Mutex
	spaces  []*space
	compact int    // how many there may be before those are dropped whose process has ended
	kept    []uffd // that are closed when the clone is dead
}

// keep takes over a userfaultfd that has to stay open for as long as the clone lives.
func (s *server) keep(fd uffd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, fd)
}

func (s *server) closeKept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fd := range s.kept {
		closeDescriptor(int(fd))
	}
}

// killPatience is how long a supervisor that was told may take to kill the clone.
const killPatience = 5 * time.Second

// seeKilled returns when the clone is dead. A supervisor that was told kills it, with a reason for the user, unless it has been killed
// meanwhile itself: only this server is left then.
func (s *server) seeKilled(told bool) error {
	if s.clone < 0 {
		return nil
	}
	if told {
		hangUp := unix.PollFd{Fd: int32(s.conn.fd)} // POLLHUP comes unasked
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.clone), Events: unix.POLLIN}, hangUp}, int(killPatience/time.Millisecond))
	}
	return s.kill()
}

// kill ends the clone in the place of the supervisor, and returns when it has ended: only then may the userfaultfds be closed,
// which this process's end does.
func (s *server) kill() error {
	if s.clone < 0 {
		return nil
	}
	if err := unix.PidfdSendSignal(s.clone, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing the clone: %w", err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(s.clone), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive takes what the supervisor says.
func (s *server) receive(ctx context.Context) error {
	released := false
	for {
		m, fd, err := s.conn.Receive()
		switch {
		case ctx.Err() != nil:
			closeDescriptor(fd)
			return nil //nolint:nilerr // what ended the service is known
		case errors.Is(err, io.EOF) && released:
			s.orphaned.Store(true) // the supervisor was killed; the clone must not suffer from that
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errAbandoned, err)
		}
		switch m.Kind {
		case KindTask:
			if err = s.addTask(ctx, m.Task, uffd(fd)); err != nil {
				closeDescriptor(fd)
			}
		case KindFinished:
			close(s.finished)
		case KindReleased:
			released, s.clone = true, fd
		case KindEnded:
			return errAbandoned
		default:
			err = fmt.Errorf("supervisor says %q, which this version does not know", m.Kind)
		}
		if err != nil {
			return err
		}
	}
}

// interrupt ends what waits for descriptors.
func (s *server) interrupt() {
	s.conn.closeRead()
	_, _ = unix.Write(s.wakeup, binary.NativeEndian.AppendUint64(nil, 1))
}

func (s *server) addTask(ctx context.Context, task int, fd uffd) error {
	missing, err := s.images.missing(s.opts.Dir, task)
	if err != nil {
		return err
	}
	sp, err := s.addSpace(fd, missing)
	if err == nil {
		s.group.Go(func() error { return sp.serve(ctx) })
	}
	return err
}

func (s *server) addSpace(fd uffd, missing pending) (*space, error) {
	sp, err := newSpace(s, fd, missing)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	const few = 64
	if len(s.spaces) >= max(s.compact, few) {
		s.spaces = slices.DeleteFunc(s.spaces, (*space).ended)
		s.compact = 2 * len(s.spaces)
	}
	s.spaces = append(s.spaces, sp)
	return sp, nil
}

// forked takes over the memory of a process that the app has started; its supervisor keeps a copy of the descriptor.
func (s *server) forked(ctx context.Context, fd uffd, missing pending) error {
	err := s.tell(Message{Kind: KindTask}, int(fd))
	var sp *space
	if err == nil {
		sp, err = s.addSpace(fd, missing)
	}
	if err != nil {
		closeDescriptor(int(fd))
		return err
	}
	if first := s.children.add(sp); first {
		s.group.Go(func() error { return s.children.serve(ctx, s.wakeup) })
	}
	return nil
}

// tell sends a message to the supervisor, if there still is one.
func (s *server) tell(m Message, fd int) error {
	if err := s.conn.Send(m, fd); !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		return err
	}
	return nil
}

func (s *server) all() []*space {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*space(nil), s.spaces...)
}

func (s *server) change() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// awaitFilled returns when no address space misses anything.
func (s *server) awaitFilled(ctx context.Context) error {
	for !s.filled() {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// filled reports whether no address space misses anything. One that comes meanwhile comes of one that misses something, and is there
// before that is filled.
func (s *server) filled() bool {
	return s.unfilled() == nil
}

// unfilled returns the first address space that misses something; nil if there is none.
func (s *server) unfilled() *space {
	for _, sp := range s.all() { // a space's lock is taken before the server's
		if !sp.filled() {
			return sp
		}
	}
	return nil
}

// Recorder keeps the order in which pages are needed.
type Recorder struct{ w io.Writer }

// NewRecorder records to w, a line for each page: its image and its offset there. Every line is written at once.
func NewRecorder(w io.Writer) *Recorder { return &Recorder{w} }

func (r *Recorder) note(file string, offset int64) error {
	_, err := fmt.Fprintf(r.w, "%s %d\n", file, offset)
	return err
}
