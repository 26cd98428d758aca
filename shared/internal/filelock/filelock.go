// Package filelock locks files between processes with flock(2). A lock ends with the process that holds it, however
// that process dies, so a lock that is free proves that no process is at work.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by Try when another process holds the lock.
var ErrLocked = errors.New("locked by another user")

// Mode says how a lock is shared.
type Mode int

// The two modes of flock(2).
const (
	Shared    Mode = unix.LOCK_SH
	Exclusive Mode = unix.LOCK_EX
)

// retry bounds the pause between two attempts at a lock that another process holds.
const (
	retryFirst = time.Millisecond
	retryMost  = 20 * time.Millisecond
)

// Lock is a held lock.
type Lock struct {
	f *os.File
}

// Acquire takes the lock on path, creating the file if needed, and waits for it until ctx ends. Two locks taken in one
// process exclude each other just as those of two processes do.
func Acquire(ctx context.Context, path string, mode Mode) (*Lock, error) {
	pause := retryFirst
	for {
		l, err := Try(path, mode)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for lock %s: %w", path, context.Cause(ctx))
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// Try takes the lock on path if it can be had at once; ErrLocked if not.
func Try(path string, mode Mode) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening lock: %w", err)
		}
		if err := flock(f, int(mode)|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: %w", path, ErrLocked)
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		current, err := isCurrent(f, path)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if current {
			return &Lock{f: f}, nil
		}
		f.Close() // the file was removed between open and flock: what we hold is not the lock any more
	}
}

// Mark takes an exclusive lock on a file that its caller has just created; it lasts until f is closed.
func Mark(f *os.File) error {
	if err := flock(f, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return nil
}

// File is the locked file, for those who keep something in it.
func (l *Lock) File() *os.File { return l.f }

// Release gives the lock up.
func (l *Lock) Release() error { return l.f.Close() }

// Remove deletes the file of an exclusive lock and gives the lock up.
func (l *Lock) Remove() error {
	return errors.Join(os.Remove(l.f.Name()), l.f.Close())
}

func isCurrent(f *os.File, path string) (bool, error) {
	held, err := f.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return os.SameFile(held, named), nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
