package criu

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	remap "github.com/checkpoint-restore/go-criu/v8/crit/images/remap-file-path"
	"golang.org/x/sys/unix"
)

// MountFile is a file or a directory that the app held, by a descriptor, as a mapping, as its program or as a directory that it was in, on
// a mount that comes from outside the container. What a clone brings there must have it.
type MountFile struct {
	Path  string `json:"path"`
	Mount string `json:"mount"` // destination
}

// HeldFile is what a checkpoint says of something that the app held on a mount from outside.
type HeldFile struct {
	MountFile
	// MountID is the kernel's number of the donor's mount.
	MountID int32
	// ReadOnly is the donor's mount.
	ReadOnly bool
	// Mode is that of stat(2), with the file's type; 0 if only the directory that it is in is needed.
	Mode uint32
	// Size is what CRIU compares at a restore, bytes; -1 if it compares none: of directories, and of files that are open for
	// appending only.
	Size int64
}

// MountFiles lists the regular files and directories that were held on mounts from outside in a checkpoint, by path.
func MountFiles(dir string) ([]MountFile, error) {
	held, err := HeldFiles(dir)
	var list []MountFile
	for _, h := range held {
		if kind := h.Mode & unix.S_IFMT; kind == unix.S_IFREG || kind == unix.S_IFDIR {
			list = append(list, h.MountFile)
		}
	}
	return slices.Compact(list), err
}

// HeldFiles lists what was held on mounts from outside in a checkpoint, by path: what is open, mapped, or the directory or program of a process,
// what is watched (inotify), and, without a mode, what CRIU makes anew beside others (sockets that are bound, and files that were deleted).
func HeldFiles(dir string) ([]HeldFile, error) {
	list, err := (&imageDir{path: dir}).heldFiles()
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: files on mounts: %w", dir, err)
	}
	return list, nil
}

func (d *imageDir) heldFiles() ([]HeldFile, error) {
	mounts, err := d.mountEntries()
	if err != nil {
		return nil, err
	}
	outside := func(m *mnt.MntEntry) bool { return m != nil && isExternal(m) }
	byID := map[int32]*mnt.MntEntry{}
	for _, m := range mounts {
		byID[int32(m.GetMntId())] = m
	}
	unlinked, err := d.unlinked()
	if err != nil {
		return nil, err
	}
	files, err := decode(d, filesImage, &fdinfo.FileEntry{})
	if err != nil {
		return nil, err
	}
	var list []HeldFile
	add := func(m *mnt.MntEntry, name string, mode uint32, size int64) {
		list = append(list, HeldFile{
			MountFile: MountFile{Path: name, Mount: destination(m)}, MountID: int32(m.GetMntId()), ReadOnly: m.GetFlags()&unix.MS_RDONLY != 0,
			Mode: mode, Size: size,
		})
	}
	for _, f := range files {
		switch {
		case f.GetReg() != nil:
			reg := f.GetReg()
			m := byID[reg.GetMntId()]
			if !outside(m) {
				continue
			}
			mode, size := reg.GetMode(), int64(-1)
			if reg.Size != nil && mode&unix.S_IFMT == unix.S_IFREG {
				size = int64(reg.GetSize())
			}
			if unlinked[f.GetId()] {
				mode, size = 0, -1
			}
			add(m, regPath(reg), mode, size)
		case f.GetUsk() != nil:
			sk := f.GetUsk()
			name := unixName(sk.GetName())
			if name == "" || strings.HasPrefix(name, "@") || sk.GetDeleted() {
				continue
			}
			if !path.IsAbs(name) {
				name = path.Join("/", sk.GetNameDir(), name)
			}
			if m := mountAt(mounts, name); outside(m) {
				add(m, name, 0, -1)
			}
		case f.GetIfy() != nil:
			for _, w := range f.GetIfy().GetWd() {
				d.addWatched(w.GetFHandle().GetPath(), mounts, add)
			}
		case f.GetFfy() != nil:
			for _, w := range f.GetFfy().GetMark() {
				d.addWatched(w.GetIe().GetFHandle().GetPath(), mounts, add)
			}
		}
	}
	slices.SortFunc(list, func(a, b HeldFile) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Mount, b.Mount), cmp.Compare(b.Size, a.Size), cmp.Compare(b.Mode, a.Mode))
	})
	return slices.Compact(list), nil
}

// Watched is the mode of what is watched, since CRIU's images don't have it: whatever it is.
const Watched = unix.S_IFMT

// addWatched adds what inotify or fanotify watches, if CRIU knows it by a path.
func (d *imageDir) addWatched(name string, mounts []*mnt.MntEntry, add func(*mnt.MntEntry, string, uint32, int64)) {
	if name == "" {
		return
	}
	name = path.Join("/", name)
	if m := mountAt(mounts, name); m != nil && isExternal(m) {
		add(m, name, Watched, -1)
	}
}

// mountEntries returns all mounts of the images, in their order.
func (d *imageDir) mountEntries() ([]*mnt.MntEntry, error) {
	images, err := filepath.Glob(filepath.Join(d.path, mountPattern))
	if err != nil {
		return nil, err
	}
	var list []*mnt.MntEntry
	for _, image := range images {
		mounts, err := decode(d, filepath.Base(image), &mnt.MntEntry{})
		if err != nil {
			return nil, err
		}
		list = append(list, mounts...)
	}
	return list, nil
}

// mountAt returns the mount that a path is on; nil if none is. Of several at one place, the last is on top.
func mountAt(mounts []*mnt.MntEntry, name string) (on *mnt.MntEntry) {
	length := -1
	for _, m := range mounts {
		at := destination(m)
		if n := len(at); n >= length && (name == at || strings.HasPrefix(name, strings.TrimSuffix(at, "/")+"/")) {
			on, length = m, n
		}
	}
	return on
}

// unlinked returns the ids of files that have no name any more, and of which CRIU has the content.
func (d *imageDir) unlinked() (map[uint32]bool, error) {
	remaps, err := decode(d, "remap-fpath.img", &remap.RemapFilePathEntry{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ids := map[uint32]bool{}
	for _, r := range remaps {
		ids[r.GetOrigId()] = true
	}
	return ids, nil
}
