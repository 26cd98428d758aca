package criu

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
)

// DropEmptyTmpfs spares a restore the unpacking of tmpfs mounts that hold nothing, which costs a tar and a gzip each, on
// a clone's way to its first instruction. Their archives are removed, and the mounts are declared to be of a kind that
// CRIU mounts with the recorded options and leaves alone: for a tmpfs without an archive, CRIU 4.2 would fail.
// A mount whose own directory differs from what its options make of it counts as holding something.
func DropEmptyTmpfs(imageDir string) error {
	images, err := filepath.Glob(filepath.Join(imageDir, "mountpoints-*.img")) // one for each mount namespace
	if err != nil {
		return err
	}
	// Several mounts, in several namespaces, may show the same tmpfs.
	empty := map[string]bool{} // by archive
	for _, path := range images {
		if err := dropEmptyTmpfs(imageDir, path, empty); err != nil {
			return fmt.Errorf("mounts in %s: %w", path, err)
		}
	}
	for archive := range empty {
		if !empty[archive] {
			continue
		}
		if err := os.Remove(archive); err != nil {
			return err
		}
	}
	return nil
}

func dropEmptyTmpfs(imageDir, path string, empty map[string]bool) error {
	img, err := readImage(path, &mnt.MntEntry{})
	if err != nil {
		return err
	}
	changed := false
	for _, e := range img.Entries {
		m := e.Message.(*mnt.MntEntry)
		if m.GetFstype() != uint32(mnt.Fstype_TMPFS) || m.GetExtMount() {
			continue
		}
		archive := filepath.Join(imageDir, fmt.Sprintf("tmpfs-dev-%d.tar.gz.img", m.GetRootDev()))
		if _, known := empty[archive]; !known {
			if empty[archive], err = holdsNothing(archive, m.GetOptions()); err != nil {
				return fmt.Errorf("archive of %s: %w", m.GetMountpoint(), err)
			}
		}
		if !empty[archive] {
			continue
		}
		kind, name := uint32(mnt.Fstype_AUTO), "tmpfs"
		m.Fstype, m.Fsname = &kind, &name
		changed = true
	}
	if !changed {
		return nil
	}
	return writeImage(path, img)
}

// holdsNothing reports whether an archive holds the mount's own directory alone, as a mount with these options makes it.
func holdsNothing(archive, options string) (bool, error) {
	f, err := os.Open(archive)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // bind mounts of one tmpfs have their archive under another name
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return false, err
	}
	fresh, err := freshTmpfs(options)
	if err != nil {
		return false, err
	}
	for entries := tar.NewReader(unzipped); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		own := directory{mode: entry.Mode, uid: entry.Uid, gid: entry.Gid}
		if filepath.Clean(entry.Name) != "." || own != fresh {
			return false, nil
		}
	}
}

// directory is what a tar archive and tmpfs's mount options both say of a directory.
type directory struct {
	mode     int64 // permission bits, with setuid, setgid and sticky
	uid, gid int
}

// freshTmpfs is the directory of a tmpfs that is mounted with options (tmpfs(5)).
func freshTmpfs(options string) (directory, error) {
	d := directory{mode: 0o1777}
	for _, option := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		var err error
		switch key {
		case "mode":
			d.mode, err = strconv.ParseInt(value, 8, 64)
		case "uid":
			d.uid, err = strconv.Atoi(value)
		case "gid":
			d.gid, err = strconv.Atoi(value)
		}
		if err != nil {
			return d, fmt.Errorf("mount option %q: %w", option, err)
		}
	}
	return d, nil
}
