package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// CRIU makes a link, link_remap.N, to each file that is held open by a name that is gone and has another one. It lies beside the
// former name: in the container's own layer and tmpfs it is frozen with everything else, and CRIU removes it when a clone has the
// file. On a mount from outside, it would stay there, and clones would lack it.

// checkDeleted returns an error if a donor, which is paused, holds such a file on a mount from outside.
func (c container) checkDeleted(bundleDir string) error {
	b, err := loadBundle(bundleDir)
	if err != nil {
		return err
	}
	outside, err := b.bindDestinations()
	if err != nil {
		return err
	}
	pids, err := c.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		mounts, err := mountsOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) {
			continue // it has ended, and perhaps its parent has not waited for it yet
		}
		if err != nil {
			return err
		}
		for _, link := range held(pid) {
			name, err := os.Readlink(link)
			if err != nil {
				continue // likewise, or no file at all
			}
			if err := checkLink(link, name, mounts, outside); err != nil {
				return err
			}
		}
	}
	return nil
}

func mountsOf(pid int) ([]*mountinfo.Info, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, fmt.Errorf("mounts of process %d: %w", pid, err)
	}
	return mounts, nil
}

// held returns what leads to the open and the mapped files of a process.
func held(pid int) []string {
	var links []string
	for _, kind := range []string{"fd", "map_files"} {
		dir := fmt.Sprintf("/proc/%d/%s", pid, kind)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			links = append(links, filepath.Join(dir, e.Name()))
		}
	}
	return links
}

const (
	gone       = " (deleted)" // ends the kernel's name of a file that is not there any more
	nfsRemoved = ".nfs"       // begins the name that NFS gives to a file that is deleted while it is open
)

func checkLink(link, name string, mounts []*mountinfo.Info, outside []string) error {
	deleted := strings.HasSuffix(name, gone)
	if !deleted && !strings.HasPrefix(filepath.Base(name), nfsRemoved) {
		return nil
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, link, 0, unix.STATX_MNT_ID|unix.STATX_NLINK, &st); err != nil || st.Nlink == 0 {
		return nil //nolint:nilerr // it was closed; or CRIU carries its content along
	}
	for _, m := range mounts {
		if uint64(m.ID) == st.Mnt_id && slices.Contains(outside, m.Mountpoint) && (deleted || strings.HasPrefix(m.FSType, "nfs")) {
			return fmt.Errorf("the app holds %s open, which was deleted under that name but still exists under another, on the mount at %s, "+
				"which comes from outside the container: clones would lack it; let the app keep it on the container's own disk or a tmpfs "+
				"(for semaphores and shared memory: --ipc=private), or close it before the snapshot", strings.TrimSuffix(name, gone), m.Mountpoint)
		}
	}
	return nil
}

// bindDestinations returns where something from outside is mounted, as the kernel knows it.
func (b *bundle) bindDestinations() ([]string, error) {
	rootfs, err := filepath.EvalSymlinks(b.rootfs())
	if err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	var list []string
	for _, m := range b.spec.Mounts {
		if !parseMountOptions(m).bind {
			continue
		}
		dest, err := destinationIn(rootfs, m)
		if err != nil {
			return nil, err
		}
		list = append(list, dest)
	}
	return list, nil
}

var linkRemap = regexp.MustCompile(`^link_remap\.\d+$`)

// removeLinks removes the links of a clone that was not restored from its layer: CRIU does so only when it has succeeded.
func (b *bundle) removeLinks(checkpoint string) {
	links, err := criu.Links(checkpoint)
	if err != nil || len(links) == 0 {
		return // what CRIU can't read it has not restored either
	}
	root, err := os.OpenRoot(b.rootfs())
	if err != nil {
		return
	}
	defer root.Close()
	for _, l := range links {
		if linkRemap.MatchString(filepath.Base(l)) {
			_ = root.Remove(strings.TrimPrefix(l, "/"))
		}
	}
}
