package pages

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// images are the page images of a checkpoint. They are read, not mapped: what is needed lies scattered, and mapping a page
// takes longer than copying it.
type images struct {
	sums *sums // nil if there are none, as while they are being fetched

	mu   sync.RWMutex
	list []image
}

type image struct {
	name string
	file *os.File
	size int64
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
		if size := i.list[file].size; l.Offset+int64(l.End-l.Start) > size {
			return pending{}, fmt.Errorf("%s has %d bytes, and pages of process %d lie at %d", l.File, size, task, l.Offset)
		}
		p.add(r)
	}
	return p, nil
}

// open opens an image, once.
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
	fi, err := f.Stat()
	if err == nil && fi.Size() == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		f.Close()
		return 0, fmt.Errorf("page image %s: %w", f.Name(), err)
	}
	i.list = append(i.list, image{name, f, fi.Size()})
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

// read reads the content of a run into b, which is as long.
func (i *images) read(r run, b []byte) error {
	i.mu.RLock()
	m := i.list[r.file]
	i.mu.RUnlock()
	if _, err := m.file.ReadAt(b, r.offset); err != nil {
		return fmt.Errorf("page image %s can't be read at %d: %w", m.name, r.offset, err)
	}
	return i.sums.check(m.name, r.offset, b)
}

func (i *images) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, m := range i.list {
		errs = append(errs, m.file.Close())
	}
	i.list = nil
	return errors.Join(errs...)
}
