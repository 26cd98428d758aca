package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// replace takes a damaged entry away, for a whole one in dir. Clones that have links to its files are to be restored again: those
// are mended in place, and stay what the entry consists of.
func (c *Cache) replace(name, dir string) error {
	old := c.path(snapshotsDir, name)
	sizes, err := fileSizes(dir)
	if err != nil {
		return err
	}
	for file := range sizes {
		switch filepath.Dir(file) {
		case snapshot.CheckpointName:
		case ".":
			if file != snapshot.RootfsName && file != snapshot.MountFilesName {
				continue // no clone has it
			}
		default:
			continue
		}
		if err := mend(filepath.Join(old, file), filepath.Join(dir, file)); err != nil {
			return fmt.Errorf("mending %s: %w", file, err)
		}
	}
	retired := c.path(tmpDir, name+retiredSuffix)
	if err := errors.Join(os.RemoveAll(retired), os.Rename(old, retired)); err != nil {
		return err
	}
	return os.RemoveAll(retired)
}

// retiredSuffix is that of a damaged entry, in tmp, that another one has replaced.
const retiredSuffix = ".old"

// mend gives an old file that others have links to the content of a new one, and puts it in the place of that.
func mend(old, fresh string) error {
	info, err := os.Lstat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil // some hand's; it goes with the rest
	}
	from, err := os.Open(fresh)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(old, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	size, err := copyDifferences(to, from)
	if err == nil {
		err = to.Truncate(size)
	}
	if err == nil {
		err = to.Sync()
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	if err := os.Remove(fresh); err != nil {
		return err
	}
	return os.Link(old, fresh)
}

// copyDifferences makes the beginning of to like from, whose size it returns. What is right is not touched: it may be in use.
func copyDifferences(to *os.File, from io.Reader) (size int64, err error) {
	const piece = 64 << 10
	want, got := make([]byte, piece), make([]byte, piece)
	for {
		n, err := io.ReadFull(from, want)
		if n > 0 {
			m, rerr := to.ReadAt(got[:n], size)
			if rerr != nil && !errors.Is(rerr, io.EOF) || m < n || !bytes.Equal(got[:n], want[:n]) {
				if _, err := to.WriteAt(want[:n], size); err != nil {
					return size, err
				}
			}
			size += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return size, nil
		case err != nil:
			return size, err
		}
	}
}
