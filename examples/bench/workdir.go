package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// kind is that of the directory of all runs. Before there were markers, it had nothing in it but the lock and what killed runs left.
var kind = owned.Kind{Name: "bench", Version: 1, Known: func(entries map[string]fs.FileMode) bool {
	for name, mode := range entries {
		if name != lockName && (mode != fs.ModeDir || !runName.MatchString(name)) {
			return false
		}
	}
	return true
}}

const (
	lockName  = "lock"
	runPrefix = "run-"
)

var runName = regexp.MustCompile(`^` + runPrefix + `[0-9]+$`)

// workDir is where one run keeps its files. Runs exclude each other: two at once would measure each other.
type workDir struct {
	path string
	lock *os.File
}

func newWorkDir(parent string) (*workDir, error) {
	own, err := kind.Make(parent)
	if err != nil {
		return nil, fmt.Errorf("-dir: %w", err)
	}
	lock, err := os.OpenFile(own.Path(lockName), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, owned.FileMode)
	if err != nil {
		return nil, fmt.Errorf("work directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("work directory %s: another benchmark runs (%w): wait for its end", parent, err)
	}
	path, err := newRun(own)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("work directory: %w", err)
	}
	return &workDir{path, lock}, nil
}

// newRun makes a directory for the run that holds the lock, in place of those of runs that were killed.
func newRun(own owned.Dir) (string, error) {
	left, err := own.Dirs("", runName)
	if err != nil {
		return "", err
	}
	for _, name := range left {
		if err := os.RemoveAll(own.Path(name)); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp(own.Path(), runPrefix)
}

func (w *workDir) remove() error {
	return errors.Join(os.RemoveAll(w.path), w.lock.Close())
}
