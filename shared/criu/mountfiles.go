package criu

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"golang.org/x/sys/unix"
)

// MountFile is a file or a directory that the app held, by a descriptor, as a mapping, as its program or as a directory that it was in, on
// a mount that comes from outside the container. What a clone brings there must have it.
type MountFile struct {
	Path  string `json:"path"`
	Mount string `json:"mount"` // destination
}

// MountFiles lists what was held on mounts from outside in a checkpoint, by path.
func MountFiles(dir string) ([]MountFile, error) {
	list, err := (&imageDir{path: dir}).mountFiles()
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: files on mounts: %w", dir, err)
	}
	return list, nil
}

func (d *imageDir) mountFiles() ([]MountFile, error) {
	images, err := filepath.Glob(filepath.Join(d.path, "mountpoints-*.img"))
	if err != nil {
		return nil, err
	}
	outside := map[int32]string{} // destinations by CRIU's number of the mount
	for _, image := range images {
		mounts, err := decode(d, filepath.Base(image), &mnt.MntEntry{})
		if err != nil {
			return nil, err
		}
		for _, m := range mounts {
			if isExternal(m) {
				outside[int32(m.GetMntId())] = path.Join("/", m.GetMountpoint())
			}
		}
	}
	files, err := decode(d, filesImage, &fdinfo.FileEntry{})
	if err != nil {
		return nil, err
	}
	var list []MountFile
	for _, f := range files {
		reg := f.GetReg()
		mount, ok := outside[reg.GetMntId()]
		if kind := reg.GetMode() & unix.S_IFMT; ok && (kind == unix.S_IFREG || kind == unix.S_IFDIR) {
			list = append(list, MountFile{Path: regPath(reg), Mount: mount})
		}
	}
	slices.SortFunc(list, func(a, b MountFile) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Mount, b.Mount)) })
	return slices.Compact(list), nil
}
