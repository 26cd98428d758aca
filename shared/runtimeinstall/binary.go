package runtimeinstall

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// installBinary copies a program to its place in one step, and reports whether it was not there already. Containers
// that run with the one before keep running: they hold the old file.
func installBinary(from, to string) (bool, error) {
	want, err := checksum(from)
	if err != nil {
		return false, err
	}
	switch have, err := checksum(to); {
	case err == nil && bytes.Equal(have, want):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	src, err := os.Open(from)
	if err != nil {
		return false, err
	}
	defer src.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return false, err
	}
	dst, err := renameio.NewPendingFile(to, renameio.WithTempDir(filepath.Dir(to)), renameio.WithStaticPermissions(0o755))
	if err != nil {
		return false, err
	}
	defer dst.Cleanup() // nothing is left to clean up once the file is in place
	if _, err := io.Copy(dst, src); err != nil {
		return false, fmt.Errorf("%s: %w", to, err)
	}
	return true, dst.CloseAtomicallyReplace()
}

// removeBinary reports whether there was something to remove.
func removeBinary(path string) (bool, error) {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func checksum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return nil, err
	}
	return hash.Sum(nil), nil
}

// copyOwner gives f the owner of the file at path, if there is one.
func copyOwner(f *os.File, path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return f.Chown(int(stat.Uid), int(stat.Gid))
	}
	return nil
}
