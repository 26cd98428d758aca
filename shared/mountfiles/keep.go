package mountfiles

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// Kept is what Keep has done.
type Kept struct {
	// Files are the files and directories in the archive, without those that only lead to others.
	Files []criu.MountFile
	// Warnings are sentences about what clones will lack of the donor's.
	Warnings []string
}

// Keep writes an archive of what was held on a donor's mounts to w. roots are descriptors of the mounts' roots by the kernel's numbers,
// taken while the donor was paused: they are good even when it has ended and its mounts are gone. What can't be kept is told and left
// out; an error means that the archive is not whole. Nothing is written where nothing is kept.
func Keep(ctx context.Context, held []criu.HeldFile, roots map[int32]*os.File, w io.Writer) (Kept, error) {
	k := &keeper{ctx: ctx, roots: roots, tar: tar.NewWriter(w), known: map[string]bool{}, left: MaxBytes, reasons: map[string][]string{}}
	for _, h := range held {
		if err := k.keep(h); err != nil {
			return Kept{}, fmt.Errorf("files on mounts: %w", err)
		}
	}
	if len(k.known) > 0 {
		if err := k.tar.Close(); err != nil {
			return Kept{}, fmt.Errorf("files on mounts: %w", err)
		}
	}
	return Kept{k.files, k.warnings()}, nil
}

type keeper struct {
	ctx   context.Context
	roots map[int32]*os.File
	tar   *tar.Writer
	known map[string]bool // paths in the archive
	left  int64           // bytes that it may still take
	err   error           // why it can't be written
	files []criu.MountFile

	order   []string            // of reasons
	reasons map[string][]string // paths by what there is to say of them
}

// say notes something about a file.
func (k *keeper) say(reason, name string) {
	if _, ok := k.reasons[reason]; !ok {
		k.order = append(k.order, reason)
	}
	if !slices.Contains(k.reasons[reason], name) {
		k.reasons[reason] = append(k.reasons[reason], name)
	}
}

// Why files are not kept. Each ends a sentence that begins with their paths.
const (
	whyReadOnly = "since the mount is read-only"
	whyKernels  = "since /dev, /proc and /sys are not the app's alone"
	whyKind     = "since only regular files and directories can be"
	whyGone     = "since nothing of the kind was there any more when the app was frozen"
	whyChanged  = "since something else changed it while the app was frozen"
	whyRights   = "since set-user-id and set-group-id bits are never put back"
)

var (
	whyMany  = fmt.Sprintf("since a snapshot has at most %d files and directories of mounts", MaxEntries)
	whyLarge = fmt.Sprintf("since a snapshot's files of mounts may have %d MiB together", MaxBytes>>20)
)

func (k *keeper) keep(h criu.HeldFile) error {
	rel, ok := beneath(h.Mount, h.Path)
	kind := h.Mode & unix.S_IFMT
	switch {
	case h.Path == h.Mount: // which every clone brings
		return nil
	case !ok:
		k.omit(h, whyGone)
		return nil
	case h.Mode == 0 && (h.ReadOnly || ofKernel(h.Mount)): // no app makes sockets there
		return nil
	case kind != 0 && kind != criu.Watched && kind != unix.S_IFREG && kind != unix.S_IFDIR:
		k.omit(h, whyKind)
		return nil
	case h.ReadOnly:
		k.omit(h, whyReadOnly)
		return nil
	case ofKernel(h.Mount):
		k.omit(h, whyKernels)
		return nil
	}
	root := k.roots[h.MountID]
	if root == nil {
		k.omit(h, whyGone)
		return nil
	}
	if err := k.ctx.Err(); err != nil {
		return context.Cause(k.ctx)
	}
	if h.Mode == 0 {
		dirs, err := k.leading(root, h.Mount, path.Dir(rel))
		if err == nil {
			err = k.add(dirs)
		}
		return k.forgive(h, err)
	}
	return k.forgive(h, k.keepBeneath(h, root, rel))
}

// omission is why something is not kept.
type omission string

func (o omission) Error() string { return string(o) }

// forgive notes what belongs to one file only, and returns what ends the archive.
func (k *keeper) forgive(h criu.HeldFile, err error) error {
	var why omission
	var failed *os.PathError
	switch {
	case err == nil:
	case k.err != nil:
		return k.err
	case errors.As(err, &why):
		k.omit(h, string(why))
	case errors.As(err, &failed) && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)):
		k.omit(h, whyGone)
	case errors.As(err, &failed):
		k.omit(h, fmt.Sprintf("since it could not be read (%v)", failed.Err))
	default:
		return err
	}
	return nil
}

func (k *keeper) omit(h criu.HeldFile, why string) {
	k.say("not in the snapshot, "+why, h.Path)
}

// keepBeneath keeps a file or a directory, with those that lead to it.
func (k *keeper) keepBeneath(h criu.HeldFile, root *os.File, rel string) error {
	if k.known[h.Path] && h.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	dirs, err := k.leading(root, h.Mount, path.Dir(rel))
	if err != nil {
		return err
	}
	f, err := openBeneath(root, rel, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := stat(f)
	if err != nil {
		return err
	}
	switch kind := h.Mode & unix.S_IFMT; {
	case kind != criu.Watched && kind != uint32(st.Mode)&unix.S_IFMT:
		return omission(whyGone)
	case kind != criu.Watched && h.Mode != uint32(st.Mode):
		return omission(whyChanged)
	case !isDir(st) && !isRegular(st):
		return omission(whyKind)
	case st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0: // CRIU compares modes, so that it would be of no use without
		return omission(whyRights)
	}
	entry := k.entry(h.Path, f, st)
	if isDir(st) {
		err = k.add(append(dirs, entry))
	} else {
		var content []byte
		if content, err = k.content(h, f, st); err == nil {
			err = k.add(dirs)
		}
		if err == nil {
			err = k.addFile(entry, content)
		}
	}
	if err == nil && !slices.Contains(k.files, h.MountFile) {
		k.files = append(k.files, h.MountFile)
	}
	return err
}

// leading returns the directories between a mount's root and what lies in dir, a path relative to the root.
func (k *keeper) leading(root *os.File, mount, dir string) (list []Entry, err error) {
	if dir == "." {
		return nil, nil
	}
	at := ""
	for name := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, name)
		full := path.Join(mount, at)
		if k.known[full] {
			continue
		}
		f, err := openBeneath(root, at, unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		st, err := stat(f)
		if err == nil {
			list = append(list, k.entry(full, f, st))
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// entry describes a file, and tells what of it is left out.
func (k *keeper) entry(name string, f *os.File, st unix.Statx_t) Entry {
	e := Entry{
		Path: name, Dir: isDir(st), Mode: uint32(st.Mode) & fileModes, UID: st.Uid, GID: st.Gid, ModTime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)),
	}
	if e.Dir {
		e.Mode = uint32(st.Mode) & dirModes
	} else {
		e.Size = int64(st.Size)
	}
	if e.ModTime.Year() < 1970 || e.ModTime.Year() > 2400 {
		e.ModTime = time.Unix(0, 0)
	}
	if uint32(st.Mode)&0o7777 != e.Mode {
		k.say(fmt.Sprintf("in the snapshot with mode %o instead of %o: the bits for a set user or group are never put back", e.Mode, st.Mode&0o7777), name)
	}
	if attributes := attributesOf(f); attributes != "" {
		k.say("in the snapshot without extended attributes ("+attributes+"), which are never put back", name)
	}
	return e
}

// attributesOf names a file's extended attributes: capabilities, access control lists, those of users.
func attributesOf(f *os.File) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Listxattr(ofDescriptor(f), buf)
	if err != nil {
		return "" // its file system has none
	}
	var names []string
	for _, name := range strings.Split(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		if name != "" && name != "security.selinux" && !strings.HasPrefix(name, "trusted.") {
			names = append(names, fmt.Sprintf("%q", name))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// content reads a file that is not larger than what the archive has room for.
func (k *keeper) content(h criu.HeldFile, f *os.File, st unix.Statx_t) ([]byte, error) {
	size := int64(st.Size)
	switch {
	case h.Size >= 0 && h.Size != size:
		return nil, omission(whyChanged)
	case size > k.left:
		return nil, omission(whyLarge)
	}
	// The descriptor is known to be a regular file's: opening it again has no effects.
	fd, err := unix.Open(ofDescriptor(f), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	r := os.NewFile(uintptr(fd), f.Name())
	defer r.Close()
	content := make([]byte, size)
	if _, err := io.ReadFull(r, content); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, omission(whyChanged)
	} else if err != nil {
		return nil, err
	}
	return content, nil
}

func (k *keeper) add(dirs []Entry) error {
	for _, d := range dirs {
		if k.known[d.Path] {
			continue
		}
		if err := k.addFile(d, nil); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) addFile(e Entry, content []byte) error {
	if len(k.known) == MaxEntries {
		return omission(whyMany)
	}
	if _, err := parseHeader(e.header()); err != nil {
		return omission(fmt.Sprintf("since no clone could make it (%v)", err))
	}
	err := k.tar.WriteHeader(e.header())
	if err == nil {
		_, err = k.tar.Write(content)
	}
	if err != nil {
		k.err = fmt.Errorf("%s: %w", e.Path, err)
		return k.err
	}
	k.known[e.Path] = true
	k.left -= int64(len(content))
	return nil
}

// warnings makes sentences of what was noted.
func (k *keeper) warnings() []string {
	const shown = 10
	var list []string
	for _, reason := range k.order {
		names := k.reasons[reason]
		more := ""
		if n := len(names) - shown; n > 0 {
			names, more = names[:shown], fmt.Sprintf(" and %d more", n)
		}
		verb, remedy := "is", ""
		if len(k.reasons[reason]) > 1 {
			verb = "are"
		}
		if strings.HasPrefix(reason, "not ") {
			remedy = ": the mounts of clones must have it as it was, or the app must open it after the start"
		}
		list = append(list, fmt.Sprintf("%s%s, held by the app on a mount, %s %s%s", strings.Join(names, ", "), more, verb, reason, remedy))
	}
	return list
}

// ofKernel tells mounts in directories that processes have in common with others.
func ofKernel(mount string) bool {
	for _, dir := range []string{"/dev", "/proc", "/sys"} {
		if mount == dir || strings.HasPrefix(mount, dir+"/") {
			return true
		}
	}
	return false
}
