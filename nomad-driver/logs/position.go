package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// positionLayout has a fixed width, so that a newer time stamp overwrites an older one.
const positionLayout = "2006-01-02T15:04:05.000000000Z"

// errLocked means that another forwarder works for the same task.
var errLocked = errors.New("another log forwarder runs for this task")

// position is the time stamp of the last line delivered, in a file that is locked while it is open.
type position struct {
	file *os.File
}

// openPosition opens and locks the file. The lock ends with the process, however that ends.
func openPosition(path string) (*position, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &position{file: f}, nil
}

// get returns the zero time if nothing was delivered yet.
func (p *position) get() (time.Time, error) {
	b := make([]byte, len(positionLayout))
	n, err := p.file.ReadAt(b, 0)
	if n == 0 && errors.Is(err, io.EOF) {
		return time.Time{}, nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	t, err := time.Parse(positionLayout, string(b[:n]))
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", p.file.Name(), err)
	}
	return t, nil
}

// set notes a delivery. It survives the process, not a crash of the machine, which the container does not survive either.
func (p *position) set(t time.Time) error {
	_, err := p.file.WriteAt([]byte(t.UTC().Format(positionLayout)), 0)
	return err
}

// lockHolder returns the process id of the forwarder that has the file locked, 0 if there is none.
func lockHolder(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("lock of %s: %w", path, err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}
