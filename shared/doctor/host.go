package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

const (
	minKernel = "5.13" // tells how C libraries use restartable sequences, without which CRIU can't freeze them
	minFree   = 2 << 30
)

func platform() Check {
	c := Check{Name: "platform", Want: "linux/amd64"}
	found := runtime.GOOS + "/" + runtime.GOARCH
	if found != c.Want {
		return c.fail(found, "use a Linux machine with an x86-64 processor")
	}
	return c.ok(found)
}

func user() Check {
	c := Check{Name: "user", Want: "root"}
	if uid := os.Geteuid(); uid != 0 {
		return c.fail(fmt.Sprintf("uid %d", uid), "run it with sudo")
	}
	return c.ok("root")
}

func kernel() Check {
	c := Check{Name: "kernel", Want: minKernel + " or later"}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return c.fail(err.Error(), "")
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if criu.Older(release, minKernel) {
		return c.fail(release, "boot a newer kernel")
	}
	return c.ok(release)
}

// socketLookup looks for what keeps connections away from a clone that is not ready for them.
func socketLookup() Check {
	c := Check{Name: "socket lookup by BPF", Want: "available"}
	if err := features.HaveProgramType(ebpf.SkLookup); err != nil {
		return c.warn(err.Error(), "boot a kernel with CONFIG_BPF_SYSCALL: without it every start waits until the network is ready")
	}
	return c.ok("available")
}

func checkCRIU(ctx context.Context) Check {
	c := Check{Name: "CRIU", Want: "version " + criu.MinVersion + " or later, and a kernel that suits it"}
	install := installCRIU()
	path, err := exec.LookPath("criu")
	if err != nil {
		return c.fail("not installed", install)
	}
	file := identity(path)
	version, ok := fitCRIU.get(file)
	if !ok {
		if version, err = criu.Version(ctx, path); err != nil {
			return c.fail(err.Error(), install)
		}
		if criu.Older(version, criu.MinVersion) {
			return c.fail(version, install)
		}
		if err := criu.Check(ctx, path); err != nil {
			return c.fail(version+", "+err.Error(), "boot a kernel with CONFIG_CHECKPOINT_RESTORE, or install a newer CRIU; run as root")
		}
		fitCRIU.set(file, version)
	}
	c.Notes = criu.Faults(version)
	return c.ok(version + " at " + path)
}

// fitCRIU remembers the program that has passed. Kernels stay the same while a process runs, and the check takes up to half a second of a
// processor, which a driver's fingerprint would take every half minute.
var fitCRIU remembered

type remembered struct {
	mu            sync.Mutex
	file, version string
}

func (r *remembered) get(file string) (version string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version, file != "" && file == r.file
}

func (r *remembered) set(file, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file, r.version = file, version
}

// identity changes when a program is replaced; "" is that of none.
func identity(path string) string {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return ""
	}
	return fmt.Sprint(path, s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim)
}

// userfaults looks for what fills in the memory of a clone that runs already.
func userfaults() Check {
	c := Check{Name: "userfaultfd", Want: "available"}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return c.warn(errno.Error(), "boot a kernel with CONFIG_USERFAULTFD, and run as root: without it a clone runs only when all of its memory is there")
	}
	unix.Close(int(fd))
	return c.ok("available")
}

// criuCache looks at where CRIU keeps what it has found out about the kernel; elsewhere than on a tmpfs it does not.
func criuCache() Check {
	c := Check{Name: "CRIU's kernel cache", Want: "/run on tmpfs"}
	var fs unix.Statfs_t
	if err := unix.Statfs("/run", &fs); err != nil {
		return c.warn(err.Error(), "mount a tmpfs on /run")
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return c.warn("/run is not a tmpfs", "mount a tmpfs on /run: without it every start takes 0.1 to 0.4 s longer")
	}
	return c.ok("/run on tmpfs")
}

// tools looks for the programs that CRIU runs.
func tools() Check {
	c := Check{Name: "programs that CRIU runs", Want: "tar, gzip; iptables-restore, ip6tables-restore"}
	var needed, useful []string
	for _, name := range []string{"tar", "gzip"} {
		if _, err := exec.LookPath(name); err != nil {
			needed = append(needed, name)
		}
	}
	for _, name := range []string{"iptables-restore", "ip6tables-restore"} {
		if _, err := exec.LookPath(name); err != nil {
			useful = append(useful, name)
		}
	}
	switch {
	case len(needed) > 0:
		return c.fail("no "+strings.Join(append(needed, useful...), ", "), "install them: without them the contents of tmpfs mounts are lost")
	case len(useful) > 0:
		return c.warn("no "+strings.Join(useful, ", "), "install iptables: without it no app with an open TCP connection can be frozen")
	}
	return c.ok("all there")
}

// cacheDir looks at the directory, or at where it will be made.
func cacheDir(dir string) Check {
	c := Check{Name: "snapshot cache", Want: "a writable directory on a disk with hard links and free space"}
	place := dir
	for {
		info, err := os.Stat(place)
		if err == nil && !info.IsDir() {
			return c.fail(place+" is not a directory", "name another one with --cache")
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) || place == filepath.Dir(place) {
			return c.fail(err.Error(), "name another one with --cache")
		}
		place = filepath.Dir(place)
	}
	if err := unix.Access(place, unix.W_OK); err != nil {
		return c.fail(fmt.Sprintf("%s: %v", place, err), "run it with sudo, or name another one with --cache")
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(place, &fs); err != nil {
		return c.fail(fmt.Sprintf("%s: %v", place, err), "name another one with --cache")
	}
	free := fs.Bavail * uint64(fs.Bsize)
	found := fmt.Sprintf("%s, %s free", dir, units.BytesSize(float64(free)))
	switch {
	case !hardLinks(fs.Type):
		return c.fail(found+", on a file system without hard links", "keep the cache on ext4, XFS or Btrfs (--cache)")
	case fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC:
		return c.warn(found+", in memory", "keep the cache on a disk (--cache): here snapshots take up memory, and are gone after a reboot")
	case free < minFree:
		return c.warn(found, "free some space: an unpacked snapshot is as large as the app's memory")
	}
	return c.ok(found)
}

// hardLinks reports whether a type of file system has them; those that lack them are few.
func hardLinks(fsType int64) bool {
	switch fsType {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.V9FS_MAGIC:
		return false
	}
	return true
}
