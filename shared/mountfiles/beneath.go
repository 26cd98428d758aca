package mountfiles

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// openBeneath opens a path beneath a directory as an O_PATH descriptor, with further flags, through no symbolic link and within one file
// system. What lies on a mount can be renamed at any moment: the descriptor stays with what was found.
func openBeneath(root *os.File, rel string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW | flags,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	if rel == "" {
		rel = "."
	}
	const attempts = 100 // EAGAIN: something was renamed while the path was followed
	for range attempts - 1 {
		fd, err := unix.Openat2(int(root.Fd()), rel, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), path.Join(root.Name(), rel)), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return nil, &os.PathError{Op: "open", Path: path.Join(root.Name(), rel), Err: err}
		}
	}
	return nil, &os.PathError{Op: "open", Path: path.Join(root.Name(), rel), Err: unix.EAGAIN}
}

// OpenRoots opens the roots of mounts of a process, whatever they are, by the kernel's numbers of the mounts. Destinations are absolute,
// without symbolic links, and in the process's root; one that is not there is left out. The process must not run.
func OpenRoots(pid int, destinations []string) (map[int32]*os.File, error) {
	name := fmt.Sprintf("/proc/%d/root", pid)
	fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	roots := map[int32]*os.File{}
	for _, d := range destinations {
		at, err := unix.Openat2(fd, d, &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(at), d)
		if st, err := stat(f); err == nil && roots[int32(st.Mnt_id)] == nil {
			roots[int32(st.Mnt_id)] = f
		} else {
			f.Close()
		}
	}
	return roots, nil
}

// ofDescriptor is a path that leads to what a descriptor is of.
func ofDescriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func stat(f *os.File) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
	if err != nil {
		return st, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	return st, nil
}

func isDir(st unix.Statx_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
func isRegular(st unix.Statx_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }

// inode is a file's identity.
type inode struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

func inodeOf(st unix.Statx_t) inode {
	return inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}
