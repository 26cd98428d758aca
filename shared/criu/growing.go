package criu

import (
	"fmt"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"golang.org/x/sys/unix"
)

// LetFilesGrow has a restore take files of any size that the app had open for appending. CRIU compares sizes, but for files that are
// open for writing only, and a log on a volume that is open for reading as well has grown when a clone starts again.
func LetFilesGrow(imageDir string) error {
	path := filepath.Join(imageDir, filesImage)
	img, err := readImage(path, &fdinfo.FileEntry{})
	if err != nil {
		return fmt.Errorf("files in %s: %w", path, err)
	}
	changed := false
	for _, e := range img.Entries {
		reg := e.Message.(*fdinfo.FileEntry).GetReg()
		if reg == nil || reg.Size == nil || reg.GetFlags()&unix.O_APPEND == 0 || reg.GetFlags()&unix.O_ACCMODE == unix.O_RDONLY {
			continue
		}
		reg.Size, changed = nil, true
	}
	if !changed {
		return nil
	}
	if err := writeImage(path, img); err != nil {
		return fmt.Errorf("files in %s: %w", path, err)
	}
	return nil
}
