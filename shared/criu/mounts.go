package criu

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"golang.org/x/sys/unix"
)

// mounts returns what was mounted in the mount namespaces that were frozen.
func (d *imageDir) mounts() ([]Mount, error) {
	images, err := filepath.Glob(filepath.Join(d.path, "mountpoints-*.img"))
	if err != nil {
		return nil, err
	}
	var list []Mount
	for _, image := range images {
		entries, err := decode(d, filepath.Base(image), &mnt.MntEntry{})
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			list = append(list, Mount{
				Destination: path.Join("/", e.GetMountpoint()), // CRIU writes "./proc"
				Type:        fileSystem(e),
				External:    isExternal(e),
				ReadOnly:    e.GetFlags()&unix.MS_RDONLY != 0,
			})
		}
	}
	slices.SortStableFunc(list, func(a, b Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return list, nil
}

// isExternal reports whether a mount comes from outside the container.
func isExternal(e *mnt.MntEntry) bool { return e.GetExtMount() || e.GetExtKey() != "" }

func fileSystem(e *mnt.MntEntry) string {
	if name := e.GetFsname(); name != "" {
		return name
	}
	if kind := mnt.Fstype(e.GetFstype()); kind != mnt.Fstype_UNSUPPORTED && kind != mnt.Fstype_AUTO {
		return strings.ToLower(kind.String())
	}
	return ""
}
