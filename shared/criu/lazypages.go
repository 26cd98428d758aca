package criu

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"golang.org/x/sys/unix"
)

// LazyRun is memory of a process that CRIU leaves to a page server when it restores lazily: consecutive pages, within one
// mapping, whose content is consecutive in a page image.
type LazyRun struct {
	Start, End uint64 // addresses in the process, multiples of the page size
	File       string // page image, for example "pages-1.img"
	Offset     int64  // of the content of Start, bytes
	Parental   bool   // the process's children do not get it: they find zeros there, or nothing
}

// Flags of a pagemap entry (criu/include/pagemap.h).
const (
	pageLazy    = 1 << 1 // CRIU may leave it to a page server
	pagePresent = 1 << 2 // the content is in the page image
)

// parentalAdvice are the bits of a mapping's advice (madvise(2)) with which children do not get it.
const parentalAdvice = 1<<unix.MADV_DONTFORK | 1<<unix.MADV_WIPEONFORK

// LazyRuns returns the memory of a process that a lazy restore from dir leaves out, by address. pid is the process's in
// its own namespace, as in the names of the images.
func LazyRuns(dir string, pid int) ([]LazyRun, error) {
	images := &imageDir{path: dir}
	name := fmt.Sprintf("pagemap-%d.img", pid)
	img, err := images.image(name, &pagemap.PagemapEntry{})
	if err != nil {
		return nil, fmt.Errorf("lazy pages of process %d: %w", pid, err)
	}
	memory, err := decodeOne(images, fmt.Sprintf("mm-%d.img", pid), &mm.MmEntry{})
	if err != nil {
		return nil, fmt.Errorf("lazy pages of process %d: %w", pid, err)
	}
	var (
		runs   []LazyRun
		file   string
		offset int64
		vmas   = memory.GetVmas() // by address
	)
	for _, entry := range img.Entries {
		if head, ok := entry.Message.(*pagemap.PagemapHead); ok {
			file = fmt.Sprintf("pages-%d.img", head.GetPagesId())
			continue
		}
		e, ok := entry.Message.(*pagemap.PagemapEntry)
		if !ok {
			return nil, fmt.Errorf("%s: holds %T, want %T", name, entry.Message, e)
		}
		length := max(e.GetNrPages(), uint64(e.GetCompatNrPages())) * pageSize
		if e.GetFlags()&pagePresent == 0 {
			continue // zeros, or a parent image's
		}
		begin := offset
		offset += int64(length) //nolint:gosec // of a file
		if e.GetFlags()&pageLazy == 0 {
			continue
		}
		for start, end := e.GetVaddr(), e.GetVaddr()+length; start < end; {
			for len(vmas) > 0 && vmas[0].GetEnd() <= start {
				vmas = vmas[1:]
			}
			if len(vmas) == 0 || start < vmas[0].GetStart() {
				return nil, fmt.Errorf("%s: pages at %#x, where mm-%d.img has no mapping", name, start, pid)
			}
			stop := min(end, vmas[0].GetEnd())
			runs = append(runs, LazyRun{
				Start: start, End: stop, File: file, Offset: begin, Parental: vmas[0].GetMadv()&parentalAdvice != 0,
			})
			begin += int64(stop - start) //nolint:gosec // of a file
			start = stop
		}
	}
	return runs, nil
}
