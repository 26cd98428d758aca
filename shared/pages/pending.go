package pages

import "github.com/google/btree"

// run is memory that is still missing: consecutive pages whose content is consecutive in a page image.
type run struct {
	start, end uint64 // addresses
	file       int    // index of the page image
	offset     int64  // of the content of start, bytes
	parental   bool   // children do not get it (madvise(2), MADV_WIPEONFORK and MADV_DONTFORK)
}

// cut returns the part of a run that lies in [start, end).
func (r run) cut(start, end uint64) run {
	start, end = max(start, r.start), min(end, r.end)
	r.offset += int64(start - r.start)
	r.start, r.end = start, end
	return r
}

// pending is the missing memory of one address space: runs by address that do not overlap.
type pending struct{ runs *btree.BTreeG[run] }

func newPending() pending {
	const degree = 16
	return pending{btree.NewG(degree, func(a, b run) bool { return a.start < b.start })}
}

func (p pending) empty() bool { return p.runs.Len() == 0 }

func (p pending) add(r run) { p.runs.ReplaceOrInsert(r) }

// first returns the run with the lowest address at or above addr, beginning at addr if that lies within it.
func (p pending) first(addr uint64) (r run, ok bool) {
	if r, ok = p.at(addr); ok {
		return r.cut(addr, r.end), true
	}
	p.runs.AscendGreaterOrEqual(run{start: addr}, func(found run) bool {
		r, ok = found, true
		return false
	})
	return r, ok
}

// at returns the run that addr lies in.
func (p pending) at(addr uint64) (r run, ok bool) {
	p.runs.DescendLessOrEqual(run{start: addr}, func(found run) bool {
		r, ok = found, addr < found.end
		return false
	})
	return r, ok
}

// remove forgets [start, end) and returns what was missing there.
func (p pending) remove(start, end uint64) []run {
	var hit []run
	if r, ok := p.at(start); ok {
		hit = append(hit, r)
	}
	if len(hit) == 0 || hit[0].end < end {
		p.runs.AscendRange(run{start: start + 1}, run{start: end}, func(r run) bool {
			hit = append(hit, r)
			return true
		})
	}
	for i, r := range hit {
		if r.start < start {
			p.add(r.cut(r.start, start)) // in its own place
		} else {
			p.runs.Delete(r)
		}
		if r.end > end {
			p.add(r.cut(end, r.end))
		}
		hit[i] = r.cut(start, end)
	}
	return hit
}

// move follows mremap(2). The length is that of the old mapping; before Linux 6.17, also if the new one is shorter. What is
// missing behind that is none of its business.
func (p pending) move(from, to, length uint64) {
	for _, r := range p.remove(from, from+length) {
		r.start, r.end = r.start-from+to, r.end-from+to
		for r.start < r.end {
			there, ok := p.first(r.start)
			if !ok {
				there.start, there.end = r.end, r.end
			}
			if free := r.cut(r.start, there.start); free.start < free.end {
				p.add(free)
			}
			r = r.cut(there.end, r.end)
		}
	}
}

// fork returns what a child misses.
func (p pending) fork() pending {
	child := pending{p.runs.Clone()}
	p.runs.Ascend(func(r run) bool {
		if r.parental {
			child.runs.Delete(r)
		}
		return true
	})
	return child
}
