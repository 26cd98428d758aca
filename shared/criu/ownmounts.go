package criu

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"golang.org/x/sys/unix"
)

const mountPattern = "mountpoints-*.img"

// HoldsMounts reports whether an image is one that WriteMounts writes.
func HoldsMounts(name string) bool {
	ok, _ := filepath.Match(mountPattern, name)
	return ok
}

// OwnMount is what a container's own configuration makes of one of its mounts. CRIU by itself makes of it what the donor's was.
type OwnMount struct {
	// Destination is the mount point as the kernel knows it: absolute, and without symbolic links.
	Destination string
	// Flags are MS_* of mount(2), without those of propagation.
	Flags uintptr
	// Slave lets mounts of the source appear in the container. All other propagation is private.
	Slave bool
	// Tmpfs are the options of a tmpfs, "size=64k,nr_inodes=10"; of those, what bounds its contents is heeded. nil for a bind mount.
	Tmpfs *string
}

// WriteMounts reads the images of the mounts in imageDir and writes them to the directory `to`, with those that a container was
// configured with as its own configuration has them. Mounts that the engine or the app made stay as they are.
func WriteMounts(imageDir, to string, own []OwnMount) error {
	images, err := filepath.Glob(filepath.Join(imageDir, mountPattern))
	if err != nil {
		return err
	}
	for _, from := range images {
		if err := writeMounts(from, filepath.Join(to, filepath.Base(from)), own, len(images) == 1); err != nil {
			return fmt.Errorf("mounts in %s: %w", from, err)
		}
	}
	return nil
}

// writeMounts changes an image only if it is that of the container's first mount namespace: the one whose mounts are external, or
// the only one.
func writeMounts(from, to string, own []OwnMount, only bool) error {
	img, err := readImage(from, &mnt.MntEntry{})
	if err != nil {
		return err
	}
	var entries []*mnt.MntEntry
	external := false
	for _, e := range img.Entries {
		m := e.Message.(*mnt.MntEntry)
		entries = append(entries, m)
		external = external || m.GetExtKey() != ""
	}
	if only || external {
		if err := setMounts(entries, own); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := crit.New(nil, out, "", false, false).Encode(img); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return out.Close()
}

func setMounts(entries []*mnt.MntEntry, own []OwnMount) error {
	byDest := map[string]*mnt.MntEntry{}
	for _, m := range entries {
		byDest[destination(m)] = m // of several at one place, the last is on top
	}
	unmask(entries, byDest["/dev"])
	for _, m := range entries { // CRIU would say that it has no mapping for (null)
		isOwn := slices.ContainsFunc(own, func(o OwnMount) bool { return o.Destination == destination(m) })
		if strings.HasPrefix(m.GetExtKey(), "/") && m.GetExtKey() != "/dev/null" && !isOwn && !strings.HasPrefix(destination(m), "/sys/fs/cgroup/") {
			return fmt.Errorf("the snapshot has a mount at %s, which the container does not have", destination(m))
		}
	}
	for i, o := range own {
		m := byDest[o.Destination]
		switch {
		case m == nil:
			return fmt.Errorf("the container mounts %s, where the snapshot has no mount", o.Destination)
		case o.Tmpfs != nil && m.GetExtKey() == "":
			setTmpfs(entries, m, o)
		case o.Tmpfs == nil && m.GetExtKey() != "":
			setBind(m, o, i)
		default:
			return fmt.Errorf("the mount at %s is of another type in the snapshot", o.Destination)
		}
	}
	return nil
}

func destination(m *mnt.MntEntry) string { return path.Join("/", m.GetMountpoint()) } // CRIU writes "./proc"

// propagation are the flags that say how a mount is shared. CRIU goes by the ids of its peer groups as well.
const propagation = unix.MS_SHARED | unix.MS_PRIVATE | unix.MS_SLAVE | unix.MS_UNBINDABLE

// indifferent are flags that a bind mount does not heed when it is remounted.
var indifferent = []uint32{
	unix.MS_SILENT, unix.MS_SYNCHRONOUS, unix.MS_MANDLOCK, unix.MS_DIRSYNC, unix.MS_I_VERSION, unix.MS_LAZYTIME,
}

// setBind makes an external mount the container's own. number tells it from others: CRIU does not remount a mount that has the
// flags of another one of the same file system, for it believes that it has bound it from there; an external one is bound from
// its own source.
func setBind(m *mnt.MntEntry, own OwnMount, number int) {
	flags := uint32(own.Flags) &^ propagation
	for i, bit := range indifferent {
		if (number+1)&(1<<i) != 0 {
			flags |= bit
		}
	}
	var shared, master uint32
	if own.Slave {
		flags |= unix.MS_SLAVE
		// CRIU copies the peer group of the source; the number only has to be unused.
		const firstGroup = 1 << 30
		master = firstGroup + uint32(number)
	}
	m.Flags, m.SharedId, m.MasterId = &flags, &shared, &master
}

// bounds are the options of a tmpfs that bound what may be in it. The others say how its own directory looks, which the app may have
// changed since.
var bounds = []string{"size", "nr_inodes", "nr_blocks", "huge", "mpol", "noswap"}

func setTmpfs(entries []*mnt.MntEntry, m *mnt.MntEntry, own OwnMount) {
	flags := m.GetFlags()&propagation | uint32(own.Flags)
	if flags&(unix.MS_RELATIME|unix.MS_NOATIME) == 0 {
		flags |= unix.MS_STRICTATIME // or CRIU would have the kernel's default, which is relatime
	}
	m.Flags = &flags
	isBound := func(option string) bool {
		key, _, _ := strings.Cut(option, "=")
		return slices.Contains(bounds, key)
	}
	options := slices.DeleteFunc(strings.Split(m.GetOptions(), ","), isBound)
	for _, o := range strings.Split(*own.Tmpfs, ",") {
		if isBound(o) {
			options = append(options, o)
		}
	}
	options = slices.DeleteFunc(options, func(o string) bool { return o == "" })
	joined := strings.Join(options, ",")
	for _, other := range entries { // all that show the same file system have the same options
		if other.GetRootDev() == m.GetRootDev() && other.GetFstype() == m.GetFstype() {
			other.Options = &joined
		}
	}
}

// unmask lets files that are masked show the container's own /dev/null, as in a container that boots. runc would let them be the
// host's, whose mode and owner the container could change.
func unmask(entries []*mnt.MntEntry, dev *mnt.MntEntry) {
	for _, m := range entries {
		if m.GetExtKey() == "/dev/null" && dev != nil && m.GetRootDev() == dev.GetRootDev() && m.GetRoot() == "/null" {
			m.ExtKey = nil
		}
	}
}
