package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// watchOptions are CRIU's for a donor that watches files or directories (inotify, fanotify); "" for one that doesn't. The kernel names what is
// watched by its inode, and CRIU can't open an inode of overlayfs. So it is to look for the names in the container, which takes a second for
// some hundred thousand files. Mounts are searched last, and only if something on them is watched: a volume may hold any number of files.
func (c container) watchOptions(initPid int) (string, error) {
	pids, err := c.processes()
	if err != nil {
		return "", err
	}
	watched := watchedDevices(pids)
	if len(watched) == 0 {
		return "", nil
	}
	paths, err := scanned(initPid, watched)
	if err != nil {
		return "", fmt.Errorf("directories of container %.12s: %w", c.id, err)
	}
	var b strings.Builder
	b.WriteString("force-irmap\n")
	for _, p := range paths {
		fmt.Fprintf(&b, "irmap-scan-path %s\n", p)
	}
	return b.String(), nil
}

// scanned lists what CRIU is to search, in that order. In place of a directory with mounts below it, the rest of it is searched, and
// it at last: it may be what is watched.
func scanned(initPid int, watched []uint64) ([]string, error) {
	mountsFile, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", initPid))
	if err != nil {
		return nil, err
	}
	defer mountsFile.Close()
	mounts, err := mountinfo.GetMountsFromReader(mountsFile, nil)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", initPid))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s := scan{root: root}
	for _, m := range mounts {
		s.mounts = append(s.mounts, m.Mountpoint)
		if device := unix.Mkdev(uint32(m.Major), uint32(m.Minor)); slices.Contains(watched, device) && scannable.MatchString(m.Mountpoint) && m.Mountpoint != "/" {
			s.last = append(s.last, m.Mountpoint)
		}
	}
	if err := s.add("/"); err != nil {
		return nil, err
	}
	return append(s.paths, s.last...), nil
}

// scan collects what CRIU is to search.
type scan struct {
	root        *os.Root // the container's
	mounts      []string
	paths, last []string
}

// longestScan is how many entries a directory may have that are searched one by one.
const longestScan = 1000

func (s *scan) add(dir string) error {
	entries, err := fs.ReadDir(s.root.FS(), path.Join(".", dir))
	if errors.Is(err, fs.ErrNotExist) { // hidden by a mount
		return nil
	}
	if err != nil || len(entries) > longestScan {
		return err
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		below := func(mount string) bool { return strings.HasPrefix(mount, p+"/") }
		switch {
		case !scannable.MatchString(p) || slices.Contains(s.mounts, p):
		case e.IsDir() && slices.ContainsFunc(s.mounts, below):
			if err := s.add(p); err != nil {
				return err
			}
			s.last = append(s.last, p)
		default:
			s.paths = append(s.paths, p)
		}
	}
	return nil
}

// The names of directories are the container's, and CRIU reads a line as an option.
var scannable = regexp.MustCompile(`^[\w./+-]+$`)

// watchedDevices lists the file systems that processes watch something on.
func watchedDevices(pids []int) (devices []uint64) {
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // ended meanwhile
		}
		fds, err := p.FileDescriptors()
		if err != nil {
			continue
		}
		for _, fd := range fds {
			target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
			if err != nil || target != "anon_inode:inotify" && target != "anon_inode:[fanotify]" {
				continue
			}
			info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
			if err != nil {
				continue
			}
			for _, m := range watchedOn.FindAllSubmatch(info, -1) {
				// The kernel's own form of a device number, not the one of stat(2).
				if dev, err := strconv.ParseUint(string(m[1]), 16, 32); err == nil {
					devices = append(devices, unix.Mkdev(uint32(dev>>20), uint32(dev&0xfffff)))
				}
			}
		}
	}
	return devices
}

var watchedOn = regexp.MustCompile(`(?m)^(?:inotify|fanotify) .*\bsdev:([0-9a-f]+)`)
