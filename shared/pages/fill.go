package pages

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// chunk is how much is filled in at a time, in bytes: a fault waits for no more than that. It takes 10 µs where memory is at
// hand, and a hundred times as long where a hypervisor has to find some first.
const chunk = 32 << 10

// How far apart, in bytes, two pieces may lie that are filled in together, or read from the disk together: what lies between
// them costs less than the effort that it saves, and is needed anyway in the end.
const (
	fillGap = 8 << 10
	readGap = 128 << 10
)

// backgroundNice is the priority (nice(1)) with which the rest is filled in: the app goes first.
const backgroundNice = 10

// fill fills in what is missing, from the moment when CRIU has restored all processes on: what the app needs first, in its
// order, then the rest by address.
func (s *server) fill(ctx context.Context) error {
	first := s.opts.First
	if s.opts.Source == nil { // or else what lies between them may have to be fetched
		first = clusters(first, fillGap)
		s.readAhead(clusters(first, readGap))
	}
	select {
	case <-s.finished:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.opts.Record != nil {
		return nil
	}
	if err := s.fillFirst(ctx, first); err != nil {
		return err
	}
	runtime.LockOSThread() // never unlocked, so that the thread ends with its priority
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), backgroundNice); err != nil {
		return err
	}
	for sp := s.unfilled(); sp != nil; sp = s.unfilled() { // processes that the app starts meanwhile come at the end
		if err := sp.fillAll(ctx); err != nil {
			return err
		}
	}
	return nil
}

// readAhead has the kernel read what will be needed, where it is not in memory, while CRIU is still at work.
func (s *server) readAhead(list []Range) {
	files := map[string]*os.File{}
	for _, r := range list {
		f, ok := files[r.File]
		if !ok {
			var err error
			if f, err = os.Open(filepath.Join(s.opts.Dir, r.File)); err != nil {
				return // what needs it says so
			}
			defer f.Close()
			if isCached(f) {
				f = nil
			}
			files[r.File] = f
		}
		if f != nil {
			_ = unix.Fadvise(int(f.Fd()), r.Offset, r.Length, unix.FADV_WILLNEED)
		}
	}
}

// isCached reports whether all of a file is in memory, which takes less time to find out than to ask for it piece by piece
// (cachestat(2), since Linux 6.5).
func isCached(f *os.File) bool {
	fi, err := f.Stat()
	if err != nil {
		return false
	}
	var all unix.CachestatRange // to the end
	var found unix.Cachestat_t
	err = unix.Cachestat(uint(f.Fd()), &all, &found, 0)
	return err == nil && found.Cache >= uint64(fi.Size())/pageSize
}

// fillFirst fills in what the app needs first.
func (s *server) fillFirst(ctx context.Context, first []Range) error {
	var batches []*batch
	var found []places // of the same index
	for _, sp := range s.all() {
		batches, found = append(batches, &batch{space: sp}), append(found, placesOf(sp))
	}
	for _, want := range first {
		file := s.images.index(want.File)
		if file < 0 {
			continue // of shared memory, which CRIU has restored
		}
		for i, b := range batches {
			for _, r := range found[i].find(file, want.Offset, want.Offset+want.Length) {
				if err := b.add(ctx, r); err != nil {
					return err
				}
			}
		}
	}
	for _, b := range batches {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// places are the runs of an address space by content, as they were before the app ran.
type places []run

func placesOf(s *space) places {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p places
	s.missing.runs.Ascend(func(r run) bool {
		p = append(p, r)
		return true
	})
	slices.SortFunc(p, func(a, b run) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.offset, b.offset)) })
	return p
}

// find returns the runs whose content lies in [from, to) of an image.
func (p places) find(file int, from, to int64) []run {
	i, _ := slices.BinarySearchFunc(p, from, func(r run, from int64) int {
		return cmp.Or(cmp.Compare(r.file, file), cmp.Compare(r.offset+int64(r.end-r.start), from+1))
	})
	var found []run
	for ; i < len(p) && p[i].file == file && p[i].offset < to; i++ {
		r := p[i]
		start := r.start + uint64(max(0, from-r.offset))
		found = append(found, r.cut(start, r.start+uint64(to-r.offset)))
	}
	return found
}

// batch collects runs of an address space, and fills them in when there are enough.
type batch struct {
	*space
	runs    []run  // of chunk bytes in all at most
	content []byte // of the runs, one after the other
}

// add takes a run.
func (b *batch) add(ctx context.Context, r run) error {
	for r.start < r.end {
		next := r.cut(r.start, r.start+uint64(chunk-len(b.content)))
		if err := b.ensure(ctx, next); err != nil {
			return err
		}
		n := len(b.content)
		b.content = append(slices.Grow(b.content, chunk-n), make([]byte, next.end-next.start)...)
		if err := b.server.images.read(next, b.content[n:]); err != nil {
			return err
		}
		b.runs = append(b.runs, next)
		if len(b.content) == chunk {
			if err := b.flush(ctx); err != nil {
				return err
			}
		}
		r = r.cut(next.end, r.end)
	}
	return nil
}

// flush fills in what was taken, as far as it is still missing where it was.
func (b *batch) flush(ctx context.Context) error {
	err := b.withEvents(ctx, func() error {
		content := b.content
		for _, want := range b.runs {
			if err := b.replenish(want, content[:want.end-want.start]); err != nil {
				return err
			}
			content = content[want.end-want.start:]
		}
		return nil
	})
	b.runs, b.content = b.runs[:0], b.content[:0]
	return err
}

// replenish fills in a run, as far as it is still missing where it was; the caller holds mu.
func (s *space) replenish(want run, content []byte) error {
	for addr := want.start; addr < want.end; {
		r, ok := s.missing.first(addr)
		if !ok || r.start >= want.end {
			return nil
		}
		r = r.cut(r.start, want.end)
		addr = r.end
		if r.file != want.file || r.offset != want.cut(r.start, r.end).offset {
			continue // the app has moved other memory here
		}
		if err := s.copy(r, content[r.start-want.start:r.end-want.start]); err != nil {
			return err
		}
	}
	return nil
}

// fillAll fills in everything.
func (s *space) fillAll(ctx context.Context) error {
	b := &batch{space: s}
	for addr := uint64(0); ; {
		runs := s.some(addr, chunk)
		if len(runs) == 0 {
			if addr == 0 {
				return nil
			}
			addr = 0 // what the app has moved meanwhile
			continue
		}
		for _, r := range runs {
			if err := b.add(ctx, r); err != nil {
				return err
			}
			addr = r.end
		}
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
}

// some returns missing runs from addr on, of size bytes in all at most.
func (s *space) some(addr, size uint64) []run {
	s.mu.Lock()
	defer s.mu.Unlock()
	var runs []run
	for size > 0 {
		r, ok := s.missing.first(addr)
		if !ok {
			break
		}
		r = r.cut(r.start, r.start+size)
		runs = append(runs, r)
		addr, size = r.end, size-(r.end-r.start)
	}
	return runs
}

// ensure fetches the content of a run.
func (s *space) ensure(ctx context.Context, r run) error {
	if s.server.opts.Source == nil {
		return ctx.Err()
	}
	return s.server.opts.Source.Ensure(ctx, s.server.images.content(r))
}
