package criu

import (
	"fmt"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
)

// Bits of a mapping's status (criu/include/image.h).
const (
	vmaFilePrivate = 1 << 6
	vmaAnonPrivate = 1 << 9
)

// LargestMapping returns how many bytes the largest private mapping has of the processes whose images are in dir. A lazy restore asks
// the kernel for each of them in one piece, as memory that may be written to, whatever the app will do with it.
func LargestMapping(dir string) (int64, error) {
	images := &imageDir{path: dir}
	files, err := filepath.Glob(filepath.Join(dir, "mm-*.img"))
	if err != nil {
		return 0, err
	}
	var largest uint64
	for _, file := range files {
		memory, err := decodeOne(images, filepath.Base(file), &mm.MmEntry{})
		if err != nil {
			return 0, fmt.Errorf("mappings: %w", err)
		}
		for _, v := range memory.GetVmas() {
			if v.GetStatus()&(vmaFilePrivate|vmaAnonPrivate) != 0 {
				largest = max(largest, v.GetEnd()-v.GetStart())
			}
		}
	}
	return int64(min(largest, 1<<62)), nil
}
