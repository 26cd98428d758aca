package criu

import (
	"fmt"
	"path/filepath"
	"strings"

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
	memory, err := decodeOne(images, fmt.Sprintf("mm-%d.img", pid), &mm.MmEntry{})
	if err != nil {
		return nil, fmt.Errorf("lazy pages of process %d: %w", pid, err)
	}
	var runs []LazyRun
	vmas := memory.GetVmas() // by address
	name := fmt.Sprintf("pagemap-%d.img", pid)
	err = images.present(name, func(e present) error {
		for start, end, offset := e.start, e.end(), e.Offset; e.lazy && start < end; {
			for len(vmas) > 0 && vmas[0].GetEnd() <= start {
				vmas = vmas[1:]
			}
			if len(vmas) == 0 || start < vmas[0].GetStart() {
				return fmt.Errorf("%s: pages at %#x, where mm-%d.img has no mapping", name, start, pid)
			}
			stop := min(end, vmas[0].GetEnd())
			runs = append(runs, LazyRun{
				Start: start, End: stop, File: e.File, Offset: offset, Parental: vmas[0].GetMadv()&parentalAdvice != 0,
			})
			offset += int64(stop - start)
			start = stop
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lazy pages of process %d: %w", pid, err)
	}
	return runs, nil
}

// PageRange is a part of a page image.
type PageRange struct {
	File           string
	Offset, Length int64 // bytes
}

// EagerPages returns the parts of the page images in dir that CRIU itself reads in a lazy restore: stacks, what was
// changed of mapped files, shared memory.
func EagerPages(dir string) ([]PageRange, error) {
	images := &imageDir{path: dir}
	maps, err := filepath.Glob(filepath.Join(dir, "pagemap-*.img"))
	if err != nil {
		return nil, err
	}
	var list []PageRange
	for _, path := range maps {
		shared := strings.HasPrefix(filepath.Base(path), "pagemap-shmem-")
		err := images.present(filepath.Base(path), func(e present) error {
			if !e.lazy || shared {
				list = append(list, e.PageRange)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("pages that are restored at once: %w", err)
		}
	}
	return list, nil
}

// present is an entry of a pagemap whose content is in the page image.
type present struct {
	PageRange
	start uint64 // address
	lazy  bool
}

func (p present) end() uint64 { return p.start + uint64(p.Length) }

// present calls f for the entries of a pagemap image.
func (d *imageDir) present(name string, f func(present) error) error {
	img, err := d.image(name, &pagemap.PagemapEntry{})
	if err != nil {
		return err
	}
	var next PageRange
	for _, entry := range img.Entries {
		if head, ok := entry.Message.(*pagemap.PagemapHead); ok {
			next.File = fmt.Sprintf("pages-%d.img", head.GetPagesId())
			continue
		}
		e, ok := entry.Message.(*pagemap.PagemapEntry)
		if !ok {
			return fmt.Errorf("%s: holds %T, want %T", name, entry.Message, e)
		}
		if e.GetFlags()&pagePresent == 0 {
			continue // zeros, or a parent image's
		}
		next.Length = int64(max(e.GetNrPages(), uint64(e.GetCompatNrPages()))) * pageSize
		if err := f(present{PageRange: next, start: e.GetVaddr(), lazy: e.GetFlags()&pageLazy != 0}); err != nil {
			return err
		}
		next.Offset += next.Length
	}
	return nil
}
