package criu

import (
	"fmt"
	"maps"
	"slices"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"golang.org/x/sys/unix"
)

// UnwrittenFIFOs returns the paths in the container of the FIFOs that processes had open in a checkpoint, and none for writing.
func UnwrittenFIFOs(dir string) ([]string, error) {
	list, err := (&imageDir{path: dir}).unwrittenFIFOs()
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: FIFOs: %w", dir, err)
	}
	return list, nil
}

func (d *imageDir) unwrittenFIFOs() ([]string, error) {
	files, err := decode(d, filesImage, &fdinfo.FileEntry{})
	if err != nil {
		return nil, err
	}
	written, open := map[uint32]bool{}, map[uint32]string{} // by CRIU's number of the FIFO
	for _, f := range files {
		reg := d.fifo(f)
		if reg == nil {
			continue
		}
		open[f.GetFifo().GetPipeId()] = regPath(reg)
		if reg.GetFlags()&unix.O_ACCMODE != unix.O_RDONLY {
			written[f.GetFifo().GetPipeId()] = true
		}
	}
	maps.DeleteFunc(open, func(id uint32, _ string) bool { return written[id] })
	return slices.Sorted(maps.Values(open)), nil
}

// fifo returns what CRIU notes of a FIFO as of a file; nil of something else.
func (d *imageDir) fifo(f *fdinfo.FileEntry) *regfile.RegFileEntry {
	if f.GetFifo() == nil {
		return nil
	}
	reg, err := d.file(f.GetFifo().GetRegfId())
	if err != nil {
		return nil
	}
	return reg.GetReg()
}
