// Package foreign opens files that a container or a job can name or replace. The driver is root: a link that a task has
// made must not lead it elsewhere, and neither a pipe nor a huge file may hold it up.
package foreign

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

var (
	// ErrKind is returned for a file that is not of the kind that is wanted.
	ErrKind = errors.New("not of the expected kind")
	// ErrTooLarge is returned for a file that has more bytes than allowed.
	ErrTooLarge = errors.New("too large")
)

// OpenPipe opens the named pipe at path, relative to dir, for writing without waiting: unix.ENXIO says that it has no
// reader. Nothing below dir may be a symbolic link; dir itself is trusted.
func OpenPipe(dir, path string) (*os.File, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	name := filepath.Join(dir, path)
	// Opening a device may do something by itself, so first comes a look at what is there.
	found, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: name, Err: err}
	}
	defer unix.Close(found)
	if err := wantKind(found, name, unix.S_IFIFO, "a named pipe"); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", found), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, errors.Unwrap(err))
	}
	return f, nil
}

// ReadFile returns what a regular file holds, which may be limit bytes at most.
func ReadFile(path string, limit int64) ([]byte, error) {
	// Without O_NONBLOCK, opening a pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := wantKind(int(f.Fd()), path, unix.S_IFREG, "a regular file"); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", path, limit, ErrTooLarge)
	}
	return content, nil
}

func wantKind(fd int, name string, kind uint32, what string) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if stat.Mode&unix.S_IFMT != kind {
		return fmt.Errorf("%s is not %s: %w", name, what, ErrKind)
	}
	return nil
}
