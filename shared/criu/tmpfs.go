package criu

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// DropEmptyTmpfs removes the archives of tmpfs mounts that hold nothing but the mount's own directory. CRIU runs tar and
// gzip for each archive that it finds at restore, and takes a missing one for an empty mount. The directory's mode and
// owner come from the mount's options, so nothing is lost with it.
func DropEmptyTmpfs(imageDir string) error {
	archives, err := filepath.Glob(filepath.Join(imageDir, "tmpfs-*.tar.gz.img"))
	if err != nil {
		return err
	}
	for _, path := range archives {
		empty, err := holdsNothing(path)
		if err != nil {
			return fmt.Errorf("tmpfs archive %s: %w", path, err)
		}
		if empty {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func holdsNothing(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return false, err
	}
	for entries := tar.NewReader(unzipped); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if filepath.Clean(entry.Name) != "." {
			return false, nil
		}
	}
}
