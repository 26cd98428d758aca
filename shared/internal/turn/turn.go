// Package turn queues work on a machine, between goroutines and processes: some at a time, first come, first served. All of it
// is record locks of one file, which end with their holder however it dies, so nothing is ever left to clean up.
package turn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The file holds the number of the next ticket. Of its offsets, most of which are beyond its end, these are locked.
const (
	counter     = 0       // while a ticket is drawn
	firstPlace  = 1       // and those that follow: by those whose turn it is
	firstTicket = 1 << 32 // plus its number: by the process that waits with it
)

// The pauses between two looks, by how many tickets are before one's own at most.
const (
	pause     = 2 * time.Millisecond
	mostPause = 100 * time.Millisecond
)

// Turn is a place among those whose turn it is.
type Turn struct {
	f      *os.File
	waited time.Duration
}

// Wait returns when it is the caller's turn at the queue that file is, one of so many places, or with an error when ctx ends. The
// file is made if needed.
func Wait(ctx context.Context, file string, places int) (*Turn, error) {
	began := time.Now()
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	t := &Turn{f: f}
	if err := t.queue(ctx, places); err != nil {
		f.Close()
		return nil, fmt.Errorf("queue %s: %w", file, err)
	}
	t.waited = time.Since(began)
	return t, nil
}

// Waited is how long it took to be one's turn.
func (t *Turn) Waited() time.Duration { return t.waited }

// File is what holds the place, for a process that is to hold it on: its copy holds the place as well, until both are closed.
func (t *Turn) File() *os.File { return t.f }

// End gives the place to the next one. A nil Turn has none.
func (t *Turn) End() {
	if t != nil {
		t.f.Close()
	}
}

func (t *Turn) queue(ctx context.Context, places int) error {
	ticket, err := t.draw(ctx)
	if err != nil {
		return err
	}
	for {
		ahead, err := t.ahead(ticket)
		if err != nil {
			return err
		}
		if ahead == 0 {
			free, err := t.takePlace(places)
			if err != nil {
				return err
			}
			if free {
				return t.lock(unix.F_UNLCK, firstTicket+ticket)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(pause*time.Duration(max(ahead, 1)), mostPause)):
		}
	}
}

// draw draws a ticket, and holds it.
func (t *Turn) draw(ctx context.Context) (int64, error) {
	for {
		err := t.lock(unix.F_WRLCK, counter)
		if err == nil {
			break
		}
		if !errors.Is(err, errLocked) {
			return 0, err
		}
		select { // a process draws, which is a matter of microseconds
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(pause / 10):
		}
	}
	var b [8]byte
	n, _ := t.f.ReadAt(b[:], 0) // an empty file is the number 0
	if n < len(b) {
		b = [8]byte{}
	}
	ticket := int64(binary.LittleEndian.Uint64(b[:]) % (1 << 48))
	binary.LittleEndian.PutUint64(b[:], uint64(ticket)+1)
	if _, err := t.f.WriteAt(b[:], 0); err != nil {
		return 0, err
	}
	if err := t.lock(unix.F_WRLCK, firstTicket+ticket); err != nil {
		return 0, err
	}
	return ticket, t.lock(unix.F_UNLCK, counter)
}

// ahead is how many tickets lie between one's own and the first that a process waits with, that one included.
func (t *Turn) ahead(ticket int64) (int64, error) {
	if ticket == 0 {
		return 0, nil
	}
	first := unix.Flock_t{Type: unix.F_WRLCK, Start: firstTicket, Len: ticket}
	if err := fcntl(t.f, unix.F_OFD_GETLK, &first); err != nil {
		return 0, err
	}
	if first.Type == unix.F_UNLCK {
		return 0, nil
	}
	return ticket - (first.Start - firstTicket), nil
}

func (t *Turn) takePlace(places int) (bool, error) {
	for i := range int64(places) {
		err := t.lock(unix.F_WRLCK, firstPlace+i)
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, errLocked) {
			return false, err
		}
	}
	return false, nil
}

var errLocked = errors.New("locked by another user")

func (t *Turn) lock(kind int16, offset int64) error {
	err := fcntl(t.f, unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: offset, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errLocked
	}
	return err
}

func fcntl(f *os.File, command int, l *unix.Flock_t) error {
	for {
		err := unix.FcntlFlock(f.Fd(), command, l)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
