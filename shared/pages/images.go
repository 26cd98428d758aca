package pages

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// images are the page images of a checkpoint, mapped into memory.
type images struct {
	mu   sync.RWMutex
	list []image
}

type image struct {
	name    string
	content []byte
}

// missing returns the memory of a task that a lazy restore leaves out.
func (i *images) missing(dir string, task int) (pending, error) {
	lazy, err := criu.LazyRuns(dir, task)
	if err != nil {
		return pending{}, err
	}
	p := newPending()
	for _, l := range lazy {
		file, err := i.open(dir, l.File)
		if err != nil {
			return pending{}, err
		}
		r := run{start: l.Start, end: l.End, file: file, offset: l.Offset, parental: l.Parental}
		if size := int64(len(i.list[file].content)); l.Offset+int64(l.End-l.Start) > size {
			return pending{}, fmt.Errorf("%s has %d bytes, and pages of process %d lie at %d", l.File, size, task, l.Offset)
		}
		p.add(r)
	}
	return p, nil
}

// open maps an image, once.
func (i *images) open(dir, name string) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := slices.IndexFunc(i.list, func(m image) bool { return m.name == name }); n >= 0 {
		return n, nil
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return 0, fmt.Errorf("page image: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("page image: %w", err)
	}
	if fi.Size() == 0 {
		return 0, fmt.Errorf("page image %s is empty", f.Name())
	}
	content, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("page image %s: mmap: %w", f.Name(), err)
	}
	i.list = append(i.list, image{name, content})
	return len(i.list) - 1, nil
}

func (i *images) name(file int) string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.list[file].name
}

// index returns the image of a name; -1 if none of the clone's memory is in it.
func (i *images) index(name string) int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return slices.IndexFunc(i.list, func(m image) bool { return m.name == name })
}

// content is where the content of a run lies.
func (i *images) content(r run) Range {
	return Range{File: i.name(r.file), Offset: r.offset, Length: int64(r.end - r.start)}
}

// bytes is the content of a run.
func (i *images) bytes(r run) []byte {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.list[r.file].content[r.offset : r.offset+int64(r.end-r.start)]
}

var zeroPage [pageSize]byte

// uniform returns the beginning of a run, as far as it is nothing but zeros, or no page is.
func (i *images) uniform(r run) (part run, zeros bool, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // the disk may fail
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = fmt.Errorf("page image %s can't be read near %d", i.name(r.file), r.offset)
		default:
			panic(p)
		}
	}()
	b := i.bytes(r)
	isZero := func(n int) bool { return bytes.Equal(b[n:n+pageSize], zeroPage[:]) }
	zeros = isZero(0)
	n := pageSize
	for n < len(b) && isZero(n) == zeros {
		n += pageSize
	}
	return r.cut(r.start, r.start+uint64(n)), zeros, nil
}

func (i *images) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, m := range i.list {
		errs = append(errs, unix.Munmap(m.content))
	}
	i.list = nil
	return errors.Join(errs...)
}
