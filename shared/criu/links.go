package criu

import (
	"errors"
	"fmt"
	"io/fs"

	remap "github.com/checkpoint-restore/go-criu/v8/crit/images/remap-file-path"
)

// Links returns the paths in the container of the links that CRIU has made to files whose own names were gone (its option
// link-remap).
func Links(dir string) ([]string, error) {
	images := &imageDir{path: dir}
	list, err := images.links()
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return list, nil
}

func (d *imageDir) links() ([]string, error) {
	remaps, err := decode(d, "remap-fpath.img", &remap.RemapFilePathEntry{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []string
	for _, r := range remaps {
		if r.GetRemapType() != remap.RemapType_LINKED {
			continue
		}
		file, err := d.file(r.GetRemapId())
		if err != nil {
			return nil, err
		}
		list = append(list, regPath(file.GetReg()))
	}
	return list, nil
}
