package pages

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// chunk is how much is filled in at a time; a fault waits for no more than that.
const chunk = 256 << 10

// backgroundNice is the priority (nice(1)) with which the rest is filled in: the app goes first.
const backgroundNice = 10

// fill fills in what is missing, from the moment when CRIU has restored all processes on: what the app needs first, in its
// order, then the rest by address.
func (s *server) fill(ctx context.Context) error {
	select {
	case <-s.finished:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.opts.Record != nil {
		return nil
	}
	if err := s.fillFirst(ctx); err != nil {
		return err
	}
	runtime.LockOSThread() // never unlocked, so that the thread ends with its priority
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), backgroundNice); err != nil {
		return err
	}
	for done := 0; ; { // processes that the app starts meanwhile come at the end
		spaces := s.all()
		if done == len(spaces) {
			return nil
		}
		if err := spaces[done].fillAll(ctx); err != nil {
			return err
		}
		done++
	}
}

// fillFirst fills in what the app needs first.
func (s *server) fillFirst(ctx context.Context) error {
	places := make([]places, 0, len(s.all()))
	for _, sp := range s.all() {
		places = append(places, placesOf(sp))
	}
	for _, want := range s.opts.First {
		file := s.images.index(want.File)
		if file < 0 {
			continue // of shared memory, which CRIU has restored
		}
		for _, p := range places {
			for _, r := range p.find(file, want.Offset, want.Offset+want.Length) {
				if err := p.space.fillRange(ctx, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// places are the runs of an address space by content, as they were before the app ran.
type places struct {
	space *space
	runs  []run
}

func placesOf(s *space) places {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := places{space: s}
	s.missing.runs.Ascend(func(r run) bool {
		p.runs = append(p.runs, r)
		return true
	})
	slices.SortFunc(p.runs, func(a, b run) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.offset, b.offset)) })
	return p
}

// find returns the runs whose content lies in [from, to) of an image.
func (p places) find(file int, from, to int64) []run {
	i, _ := slices.BinarySearchFunc(p.runs, from, func(r run, from int64) int {
		return cmp.Or(cmp.Compare(r.file, file), cmp.Compare(r.offset+int64(r.end-r.start), from+1))
	})
	var found []run
	for ; i < len(p.runs) && p.runs[i].file == file && p.runs[i].offset < to; i++ {
		r := p.runs[i]
		start := r.start + uint64(max(0, from-r.offset))
		found = append(found, r.cut(start, r.start+uint64(to-r.offset)))
	}
	return found
}

// fillRange fills in a run, as far as it is still missing where it was.
func (s *space) fillRange(ctx context.Context, want run) error {
	for want.start < want.end {
		next := want.cut(want.start, want.start+chunk)
		if err := s.ensure(ctx, next); err != nil {
			return err
		}
		// Copying from what this process has not mapped yet would take the long way, page by page.
		_ = unix.Madvise(s.server.images.bytes(next), unix.MADV_POPULATE_READ)
		err := s.withEvents(ctx, func() error {
			for addr := next.start; addr < next.end; {
				r, ok := s.missing.first(addr)
				if !ok || r.start >= next.end {
					return nil
				}
				r = r.cut(r.start, next.end)
				addr = r.end
				if r.file != want.file || r.offset != want.cut(r.start, r.end).offset {
					continue // the app has moved other memory here
				}
				if err := s.copy(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		want.offset += int64(next.end - next.start)
		want.start = next.end
	}
	return nil
}

// fillAll fills in everything.
func (s *space) fillAll(ctx context.Context) error {
	for addr := uint64(0); ; {
		s.mu.Lock()
		r, ok := s.missing.first(addr)
		empty := s.missing.empty()
		s.mu.Unlock()
		switch {
		case empty:
			return nil
		case !ok: // what the app has moved meanwhile
			addr = 0
			continue
		}
		r = r.cut(r.start, r.start+chunk)
		if err := s.fillRange(ctx, r); err != nil {
			return err
		}
		addr = r.end
	}
}

// ensure fetches the content of a run.
func (s *space) ensure(ctx context.Context, r run) error {
	if s.server.opts.Source == nil {
		return ctx.Err()
	}
	return s.server.opts.Source.Ensure(ctx, s.server.images.content(r))
}
