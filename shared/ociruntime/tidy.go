package ociruntime

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"
)

// tidyAfterKill takes away what runc and CRIU leave when a restore is killed. They do so themselves when it fails.
//
//   - runc shows CRIU the root file system at a place of its own, inside the directory that `runc delete` then empties:
//     the container's layer would be emptied with it.
//   - CRIU mounts every cgroup hierarchy below its work directory: removing that removes cgroups.
//   - CRIU assembles the clone's mounts, in the clone's own mount namespace, below a directory in /tmp.
func (c container) tidyAfterKill(inv invocation) error {
	root := filepath.Join(inv.root, c.id, "criu-root")
	err := unix.Unmount(root, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not mounted
		err = nil
	} else if err != nil {
		err = fmt.Errorf("unmount %s: %w", root, err)
	}
	return errors.Join(err, mount.RecursiveUnmount(c.path(workName)), c.removeMountRoot())
}

var mountRoot = regexp.MustCompile(`/tmp/\.criu\.mntns\.\w{6}\b`)

// removeMountRoot removes CRIU's directory in /tmp, whose name only its log knows.
func (c container) removeMountRoot() error {
	log, err := os.Open(filepath.Join(c.path(workName), restoreLog))
	if err != nil {
		return nil // CRIU did not get so far
	}
	defer log.Close()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if dir := mountRoot.Find(lines.Bytes()); dir != nil {
			if err := os.Remove(string(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		}
	}
	return nil
}

// removeState removes the container's directory, and nothing else: whatever is still mounted in it is not its own.
func (c container) removeState() error {
	dir := c.run.stateDir(c.id)
	if err := mount.RecursiveUnmount(dir); err != nil {
		return fmt.Errorf("state of container %.12s: %w", c.id, err)
	}
	return os.RemoveAll(dir)
}
