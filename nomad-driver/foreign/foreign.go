// Package foreign opens files that a container or a job can name or replace. The driver is root: a link that a task has
// made must not lead it elsewhere, and neither a pipe nor a huge file may hold it up.
package foreign

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
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
	return openBeneath(dir, path, unix.RESOLVE_NO_SYMLINKS, unix.S_IFIFO, "a named pipe", os.O_WRONLY)
}

// OpenFile opens the regular file at path, relative to dir, for reading. Symbolic links may lead to files below dir.
func OpenFile(dir, path string) (*os.File, error) {
	return openBeneath(dir, path, 0, unix.S_IFREG, "a regular file", os.O_RDONLY)
}

// WriteFile replaces the file at path, relative to dir, at once. Its directory may be no symbolic link, nor have one on the way to it.
func WriteFile(dir, path string, content []byte, mode os.FileMode) error {
	parent, err := findBeneath(dir, filepath.Dir(path), unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	if err := wantKind(parent, filepath.Join(dir, filepath.Dir(path)), unix.S_IFDIR, "a directory"); err != nil {
		return err
	}
	held := fmt.Sprintf("/proc/self/fd/%d", parent)
	return renameio.WriteFile(filepath.Join(held, filepath.Base(path)), content, mode, renameio.WithTempDir(held), renameio.IgnoreUmask())
}

func openBeneath(dir, path string, resolve uint64, kind uint32, what string, flags int) (*os.File, error) {
	// Opening a device may do something by itself, so first comes a look at what is there.
	found, err := findBeneath(dir, path, resolve)
	if err != nil {
		return nil, err
	}
	defer unix.Close(found)
	name := filepath.Join(dir, path)
	if err := wantKind(found, name, kind, what); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", found), flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, errors.Unwrap(err))
	}
	return f, nil
}

// findBeneath returns a descriptor (O_PATH) of what is at path below dir.
func findBeneath(dir, path string, resolve uint64) (int, error) {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(root)
	found, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | resolve,
	})
	if err != nil {
		return -1, &os.PathError{Op: "openat2", Path: filepath.Join(dir, path), Err: err}
	}
	return found, nil
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
