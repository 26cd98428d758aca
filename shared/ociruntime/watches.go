package ociruntime

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
)

// watchOptions are CRIU's for a donor that watches files or directories (inotify, fanotify); "" for one that doesn't. The kernel names what is
// watched by its inode, and CRIU can't open an inode of overlayfs or of a tmpfs. So it is to look for the names in the whole container,
// which takes a second for some hundred thousand files.
func (c container) watchOptions(initPid int) (string, error) {
	pids, err := c.processes()
	if err != nil || !slices.ContainsFunc(pids, watches) {
		return "", err
	}
	root := fmt.Sprintf("/proc/%d/root", initPid)
	entries, err := os.ReadDir(root)
	if err != nil {
		return "", fmt.Errorf("directories of container %.12s: %w", c.id, err)
	}
	var b strings.Builder
	b.WriteString("force-irmap\n")
	for _, e := range entries {
		if e.IsDir() && scannable.MatchString(e.Name()) && !slices.Contains(notScanned, e.Name()) {
			fmt.Fprintf(&b, "irmap-scan-path /%s\n", e.Name())
		}
	}
	if info, err := os.Lstat(filepath.Join(root, "dev")); err == nil && info.IsDir() {
		b.WriteString("irmap-scan-path /dev/shm\n")
	}
	return b.String(), nil
}

// The names of directories are the container's, and CRIU reads a line as an option.
var scannable = regexp.MustCompile(`^[\w.+-]+$`)

// notScanned have nothing that lasts.
var notScanned = []string{"dev", "proc", "sys"}

// watches reports whether a process has a descriptor of inotify's or fanotify's.
func watches(pid int) bool {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return false // ended meanwhile
	}
	targets, err := p.FileDescriptorTargets()
	return err == nil && slices.ContainsFunc(targets, func(t string) bool { return t == "anon_inode:inotify" || t == "anon_inode:[fanotify]" })
}
