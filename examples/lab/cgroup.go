package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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

// enteredEnv marks a process whose root of cgroup v2 is the node's cgroup.
const enteredEnv = "CRIU_DOCKER_LAB_CGROUP"

// enterCgroup makes the node's cgroup the root of what this process and all that it starts see of cgroup v2. A cgroup namespace
// belongs to a thread, so that the program begins once more, from that thread; then it returns.
func enterCgroup(spec nodeSpec) error {
	if os.Getenv(enteredEnv) != "" {
		return nil
	}
	root := unifiedRoot()
	if root == "" {
		return errors.New("this machine has no cgroup v2: mount it on /sys/fs/cgroup/unified")
	}
	own := filepath.Join(root, spec.Cgroup)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return fmt.Errorf("cgroup of the node: %w", err)
	}
	for dir := root; dir != own; { // from the top down
		name, _, _ := strings.Cut(strings.TrimPrefix(own, dir+"/"), "/")
		dir = filepath.Join(dir, name)
		if dir != own {
			delegate(dir)
		}
	}
	runtime.LockOSThread()
	if err := os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("enter the cgroup of the node: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cgroup namespace: %w", err)
	}
	if !spec.Systemd { // which does so itself: only a cgroup without processes passes controllers on
		leaf := filepath.Join(own, "lab")
		if err := os.MkdirAll(leaf, 0o755); err != nil {
			return fmt.Errorf("cgroup of the node: %w", err)
		}
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter the cgroup of the node: %w", err)
		}
		delegate(own)
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), enteredEnv+"=1"))
}

// delegate passes on what controllers a cgroup has. The root of the hierarchy is the machine's: what that keeps for v1, say, no
// node has.
func delegate(dir string) {
	controllers, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	for c := range strings.FieldsSeq(string(controllers)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0) // the node does without
	}
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
