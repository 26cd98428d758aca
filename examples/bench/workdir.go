package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// workDir is where one run keeps its files. Runs exclude each other: two at once would measure each other.
type workDir struct {
	path string
	lock *os.File
}

func newWorkDir(parent string) (*workDir, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil { // memory images hold secrets
		return nil, fmt.Errorf("work directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(parent, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("work directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("work directory %s: another benchmark runs (%w): wait for its end", parent, err)
	}
	path, err := os.MkdirTemp(parent, "run-")
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("work directory: %w", err)
	}
	return &workDir{path, lock}, nil
}

func (w *workDir) remove() error {
	return errors.Join(os.RemoveAll(w.path), w.lock.Close())
}
