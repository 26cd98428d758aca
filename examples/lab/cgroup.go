package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoots are the hierarchies of this machine: one on cgroup v2, one for each controller on v1.
func cgroupRoots() []string {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}
	}
	roots, _ := filepath.Glob(root + "/*")
	return roots
}

// unifiedRoot is where cgroup v2 is mounted, or empty.
func unifiedRoot() string {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
			return root
		}
	}
	return ""
}

// removeCgroups removes a cgroup and those below it from every hierarchy. Processes in it must have ended; the kernel
// takes a moment to notice.
func removeCgroups(path string) error {
	for _, root := range cgroupRoots() {
		if err := removeCgroup(filepath.Join(root, path)); err != nil {
			return err
		}
	}
	return nil
}

// removeIfEmpty removes a cgroup that several labs share, unless one of them uses it.
func removeIfEmpty(path string) {
	for _, root := range cgroupRoots() {
		_ = unix.Rmdir(filepath.Join(root, path)) // fails as long as anything is below it, and if it is not there
	}
}

func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", dir, err)
	}
	slices.Reverse(dirs) // children before parents
	for _, d := range dirs {
		for attempt := 0; ; attempt++ {
			err := unix.Rmdir(d)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if attempt == 100 {
				return fmt.Errorf("remove cgroup %s: %w", d, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}
