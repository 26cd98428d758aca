package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// imagesDir is the directory that CRIU restores from, beside the checkpoint: hard links to its images, but for those that a start
// makes the clone's own. Symbolic ones would not do, since CRIU follows them in the clone's root.
func imagesDir(checkpoint string) string { return filepath.Join(filepath.Dir(checkpoint), "images") }

// own is what of the bundle CRIU would not give the clone by itself.
type own struct {
	cgroups  hostCgroups
	oomScore *int // nil leaves it
	move     move // of its sockets
}

// makeImages fills the directory that CRIU restores from, and returns what is to be done later.
func makeImages(bundleDir string, req Request) (own, error) {
	b, err := loadBundle(bundleDir)
	if err != nil {
		return own{}, err
	}
	host, err := mountinfo.GetMounts(nil)
	if err != nil {
		return own{}, fmt.Errorf("mounts of this host: %w", err)
	}
	o := own{cgroups: b.hostCgroups(host)}
	mounts, err := b.ownMounts(host)
	if err == nil {
		o.move, err = newMove(b, req)
	}
	if err == nil {
		err = writeImages(req.CheckpointDir, imagesDir(req.CheckpointDir), mounts, o.move)
	}
	if b.spec.Process != nil {
		o.oomScore = b.spec.Process.OOMScoreAdj
	}
	return o, err
}

func writeImages(checkpoint, to string, own []criu.OwnMount, sockets move) error {
	if err := os.RemoveAll(to); err != nil { // of an earlier start
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	images, err := os.ReadDir(checkpoint)
	if err != nil {
		return err
	}
	for _, i := range images {
		if criu.HoldsMounts(i.Name()) || criu.HoldsSockets(i.Name()) && len(sockets.from) > 0 {
			continue
		}
		if err := os.Link(filepath.Join(checkpoint, i.Name()), filepath.Join(to, i.Name())); err != nil {
			return err
		}
	}
	if len(sockets.from) > 0 {
		if err := criu.WriteSockets(checkpoint, to, sockets.place); err != nil {
			return err
		}
	}
	return criu.WriteMounts(checkpoint, to, own)
}

// ownMounts returns what the container's configuration makes of its bind mounts and tmpfs, in the way of runc. Other mounts are
// the engine's, and the same in all containers that are equally privileged.
func (b *bundle) ownMounts(host []*mountinfo.Info) ([]criu.OwnMount, error) {
	rootfs, err := filepath.EvalSymlinks(b.rootfs())
	if err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	var own []criu.OwnMount
	for _, m := range b.spec.Mounts {
		opts := parseMountOptions(m)
		if m.Type != "tmpfs" && !opts.bind {
			continue
		}
		dest, err := destinationIn(rootfs, m)
		if err != nil {
			return nil, err
		}
		o := criu.OwnMount{Destination: dest}
		if opts.bind {
			err = opts.bindTo(&o, m.Source, host)
		} else {
			o.Flags = opts.set | relatime(opts.set)
			o.Tmpfs = &opts.data
		}
		if err != nil {
			return nil, fmt.Errorf("mount at %s: %w", m.Destination, err)
		}
		// Of several at one place, the last one counts.
		own = append(slices.DeleteFunc(own, func(other criu.OwnMount) bool { return other.Destination == o.Destination }), o)
	}
	return own, nil
}

// destinationIn returns where a mount is in a root file system, as the kernel knows it: without symbolic links.
func destinationIn(rootfs string, m specs.Mount) (string, error) {
	dest, err := securejoin.SecureJoin(rootfs, m.Destination)
	if err != nil {
		return "", fmt.Errorf("mount at %s: %w", m.Destination, err)
	}
	return path.Join("/", strings.TrimPrefix(dest, rootfs)), nil
}

// relatime is what the kernel adds to a new mount that says nothing of access times.
func relatime(flags uintptr) uintptr {
	if flags&(unix.MS_NOATIME|unix.MS_STRICTATIME) == 0 {
		return unix.MS_RELATIME
	}
	return 0
}

// mountOptions are the options of one mount in a bundle.
type mountOptions struct {
	bind, recursive    bool
	set, cleared       uintptr // MS_*
	allSet, allCleared uintptr // the same, of the mount and those below it ("rro")
	propagation        string  // "" if it is not given
	data               string  // what the file system is to heed
}

// mountFlags are the options of the runtime specification that set flags of a mount, and those that clear them.
var mountFlags = map[string]struct {
	flag  uintptr
	clear bool
}{
	"ro": {unix.MS_RDONLY, false}, "rw": {unix.MS_RDONLY, true},
	"nosuid": {unix.MS_NOSUID, false}, "suid": {unix.MS_NOSUID, true},
	"nodev": {unix.MS_NODEV, false}, "dev": {unix.MS_NODEV, true},
	"noexec": {unix.MS_NOEXEC, false}, "exec": {unix.MS_NOEXEC, true},
	"nosymfollow": {unix.MS_NOSYMFOLLOW, false}, "symfollow": {unix.MS_NOSYMFOLLOW, true},
	"noatime": {unix.MS_NOATIME, false}, "atime": {unix.MS_NOATIME, true},
	"nodiratime": {unix.MS_NODIRATIME, false}, "diratime": {unix.MS_NODIRATIME, true},
	"relatime": {unix.MS_RELATIME, false}, "norelatime": {unix.MS_RELATIME, true},
	"strictatime": {unix.MS_STRICTATIME, false}, "nostrictatime": {unix.MS_STRICTATIME, true},
}

func parseMountOptions(m specs.Mount) mountOptions {
	o := mountOptions{bind: m.Type == "bind"}
	var data []string
	for _, option := range m.Options {
		whole := mountFlags[strings.TrimPrefix(option, "r")]
		switch f, known := mountFlags[option]; {
		case option == "bind", option == "rbind":
			o.bind, o.recursive = true, option == "rbind"
		case known && f.clear:
			o.set, o.cleared = o.set&^f.flag, o.cleared|f.flag
		case known:
			o.set, o.cleared = o.set|f.flag, o.cleared&^f.flag
		case strings.HasPrefix(option, "r") && whole.clear:
			o.allSet, o.allCleared = o.allSet&^whole.flag, o.allCleared|whole.flag
		case strings.HasPrefix(option, "r") && whole.flag != 0:
			o.allSet, o.allCleared = o.allSet|whole.flag, o.allCleared&^whole.flag
		case slices.Contains([]string{"private", "slave", "shared", "unbindable"}, strings.TrimPrefix(option, "r")):
			o.propagation = strings.TrimPrefix(option, "r")
		case slices.Contains([]string{"defaults", "remount", "tmpcopyup"}, option):
		default:
			data = append(data, option)
		}
	}
	o.data = strings.Join(data, ",")
	return o
}

// errShared: CRIU gives a mount a peer group of its own, and the host would see nothing of what is mounted there.
var errShared = errors.New("its propagation is shared, and a clone can't share mounts with the host: use slave or private, or start the container with the policy never")

// bindTo says what a bind mount of source is.
func (o mountOptions) bindTo(own *criu.OwnMount, source string, host []*mountinfo.Info) error {
	from, err := mountOf(source, host)
	if err != nil {
		return err
	}
	flags := flagsOf(from.Options)
	if o.set|o.cleared != 0 { // the kernel leaves access times alone where nothing is said of them
		flags = o.set
	}
	own.Flags = flags&^o.allCleared | o.allSet
	sharing := strings.Fields(from.Optional)
	switch o.propagation {
	case "shared":
		return errShared
	case "", "slave": // runc has made everything a slave before it mounts
		own.Slave = len(sharing) > 0
	case "private":
	default:
		return fmt.Errorf("its propagation is %s, which a clone can't have: use slave or private", o.propagation)
	}
	return o.checkBelow(source, from, host)
}

// checkBelow returns an error if a bind mount of source brings other mounts with it: CRIU binds the source alone.
func (o mountOptions) checkBelow(source string, from *mountinfo.Info, host []*mountinfo.Info) error {
	for _, m := range host {
		if o.recursive && m.Parent == from.ID && strings.HasPrefix(m.Mountpoint, strings.TrimSuffix(source, "/")+"/") {
			return fmt.Errorf("in its source, another file system is mounted at %s, which a clone would lack: mount that one by itself, or use bind-nonrecursive", m.Mountpoint)
		}
	}
	return nil
}

// checkDonor refuses mounts that no clone could have. CRIU would even take a tmpfs of the host for the donor's own, and carry its
// contents along.
func (b *bundle) checkDonor() error {
	host, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("mounts of this host: %w", err)
	}
	for _, m := range b.spec.Mounts {
		o := parseMountOptions(m)
		if !o.bind || !filepath.IsAbs(m.Source) {
			continue
		}
		source, err := filepath.EvalSymlinks(m.Source)
		if err == nil {
			var from *mountinfo.Info
			if from, err = mountOf(source, host); err == nil {
				err = o.checkBelow(source, from, host)
			}
		}
		if err != nil {
			return fmt.Errorf("mount at %s: %w", m.Destination, err)
		}
	}
	return nil
}

// mountOf returns the mount of this host that source is in.
func mountOf(source string, host []*mountinfo.Info) (*mountinfo.Info, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, source, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return nil, &os.PathError{Op: "statx", Path: source, Err: err}
	}
	for _, m := range host {
		if st.Mask&unix.STATX_MNT_ID != 0 && uint64(m.ID) == st.Mnt_id {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s is in no mount of this host", source)
}

// flagsOf reads the options of a mount as the kernel shows them.
func flagsOf(options string) uintptr {
	var flags uintptr
	for _, o := range strings.Split(options, ",") {
		if f := mountFlags[o]; !f.clear {
			flags |= f.flag
		}
	}
	if flags&(unix.MS_NOATIME|unix.MS_RELATIME) == 0 {
		flags |= unix.MS_STRICTATIME
	}
	return flags
}
