package pages

import (
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// list is what is missing.
func (p pending) list() (list []run) {
	p.runs.Ascend(func(r run) bool {
		list = append(list, r)
		return true
	})
	return list
}

func pendingOf(runs ...run) pending {
	p := newPending()
	for _, r := range runs {
		p.add(r)
	}
	return p
}

const page = pageSize

func TestCut(t *testing.T) {
	r := run{start: 4 * page, end: 10 * page, file: 3, offset: 100 * page, parental: true}
	require.Equal(t, r, r.cut(0, 20*page))
	require.Equal(t, run{5 * page, 7 * page, 3, 101 * page, true}, r.cut(5*page, 7*page))
	require.Equal(t, run{4 * page, 5 * page, 3, 100 * page, true}, r.cut(0, 5*page))
	require.Equal(t, run{9 * page, 10 * page, 3, 105 * page, true}, r.cut(9*page, 20*page))
}

func TestPendingFirst(t *testing.T) {
	p := pendingOf(run{start: 2 * page, end: 4 * page}, run{start: 4 * page, end: 5 * page, file: 1}, run{start: 8 * page, end: 9 * page, file: 2})
	for _, c := range []struct {
		addr uint64
		want run
		ok   bool
	}{
		{0, run{start: 2 * page, end: 4 * page}, true},
		{2 * page, run{start: 2 * page, end: 4 * page}, true},
		{3 * page, run{start: 3 * page, end: 4 * page, offset: page}, true},
		{4 * page, run{start: 4 * page, end: 5 * page, file: 1}, true},
		{5 * page, run{start: 8 * page, end: 9 * page, file: 2}, true},
		{9 * page, run{}, false},
	} {
		r, ok := p.first(c.addr)
		require.Equal(t, c.ok, ok, "%#x", c.addr)
		if ok {
			require.Equal(t, c.want, r, "%#x", c.addr)
		}
	}
}

func TestPendingRemove(t *testing.T) {
	p := pendingOf(run{start: 2 * page, end: 8 * page}, run{start: 8 * page, end: 9 * page, file: 1}, run{start: 12 * page, end: 14 * page, file: 2})
	require.Empty(t, p.remove(0, 2*page))
	require.Empty(t, p.remove(9*page, 12*page))
	require.Equal(t, []run{{start: 4 * page, end: 5 * page, offset: 2 * page}}, p.remove(4*page, 5*page))
	require.Equal(t, []run{
		{start: 7 * page, end: 8 * page, offset: 5 * page}, {start: 8 * page, end: 9 * page, file: 1}, {start: 12 * page, end: 13 * page, file: 2},
	}, p.remove(7*page, 13*page))
	require.Equal(t, []run{
		{start: 2 * page, end: 4 * page}, {start: 5 * page, end: 7 * page, offset: 3 * page}, {start: 13 * page, end: 14 * page, file: 2, offset: page},
	}, p.list())
	p.remove(0, 20*page)
	require.True(t, p.empty())
}

func TestPendingMove(t *testing.T) {
	p := pendingOf(run{start: 2 * page, end: 8 * page, parental: true})
	p.move(4*page, 20*page, 2*page)
	require.Equal(t, []run{
		{start: 2 * page, end: 4 * page, parental: true},
		{start: 6 * page, end: 8 * page, offset: 4 * page, parental: true},
		{start: 20 * page, end: 22 * page, offset: 2 * page, parental: true},
	}, p.list())

	// A kernel that tells too great a length.
	p = pendingOf(run{start: 0, end: 8 * page}, run{start: 21 * page, end: 22 * page, file: 1}, run{start: 24 * page, end: 30 * page, file: 2})
	p.move(0, 20*page, 8*page)
	require.Equal(t, []run{
		{start: 20 * page, end: 21 * page},
		{start: 21 * page, end: 22 * page, file: 1},
		{start: 22 * page, end: 24 * page, offset: 2 * page},
		{start: 24 * page, end: 30 * page, file: 2},
	}, p.list())
}

func TestPendingFork(t *testing.T) {
	p := pendingOf(run{start: 0, end: page}, run{start: 2 * page, end: 3 * page, parental: true}, run{start: 4 * page, end: 5 * page})
	child := p.fork()
	require.Equal(t, []run{{start: 0, end: page}, {start: 4 * page, end: 5 * page}}, child.list())
	child.remove(0, page)
	p.remove(4*page, 5*page)
	require.Equal(t, []run{{start: 4 * page, end: 5 * page}}, child.list())
	require.Equal(t, []run{{start: 0, end: page}, {start: 2 * page, end: 3 * page, parental: true}}, p.list())
}

// The tree does what a table of pages would do.
func TestPendingAtRandom(t *testing.T) {
	const pages = 256
	random := rand.New(rand.NewPCG(1, 2))
	type content struct {
		file   int
		offset int64
	}
	type table map[uint64]content
	check := func(p pending, want table, at int) {
		got, last := table{}, uint64(0)
		for _, r := range p.list() {
			require.Less(t, r.start, r.end, "step %d", at)
			require.GreaterOrEqual(t, r.start, last, "step %d: runs overlap", at)
			last = r.end
			for addr := r.start; addr < r.end; addr += page {
				got[addr] = content{r.file, r.offset + int64(addr-r.start)}
			}
		}
		require.Equal(t, want, got, "step %d", at)
	}
	p, want := newPending(), table{}
	forks, tables := []pending{}, []table{}
	for i := range 20000 {
		from, length := uint64(random.IntN(pages))*page, uint64(1+random.IntN(16))*page
		switch random.IntN(8) {
		case 0: // CRIU has left out more
			r := run{start: from, end: from + length, file: random.IntN(3), offset: int64(random.IntN(1000)) * page}
			p.remove(r.start, r.end)
			p.add(r)
			for addr := from; addr < from+length; addr += page {
				want[addr] = content{r.file, r.offset + int64(addr-from)}
			}
		case 1, 2: // as at mremap: what is at the target is unmapped before
			to := uint64(random.IntN(pages)) * page
			if to < from+length && from < to+length {
				continue
			}
			p.remove(to, to+length)
			p.move(from, to, length)
			for d := uint64(0); d < length; d += page {
				delete(want, to+d)
				if c, ok := want[from+d]; ok {
					want[to+d] = c
					delete(want, from+d)
				}
			}
		case 3: // a child, and this is it from now on
			forks, tables = append(forks, p), append(tables, want)
			p, want = p.fork(), maps.Clone(want)
			if len(forks) > 4 {
				forks, tables = forks[1:], tables[1:]
			}
		case 4:
			r, ok := p.at(from)
			c, missing := want[from]
			require.Equal(t, missing, ok, "step %d", i)
			if ok {
				require.Equal(t, c, content{r.file, r.cut(from, r.end).offset}, "step %d", i)
			}
		default:
			p.remove(from, from+length)
			for d := uint64(0); d < length; d += page {
				delete(want, from+d)
			}
		}
		require.Equal(t, len(want) == 0, p.empty(), "step %d", i)
		if i%50 == 0 {
			check(p, want, i)
			for j := range forks {
				check(forks[j], tables[j], i)
			}
		}
	}
}

func TestPlaces(t *testing.T) {
	s := &space{missing: pendingOf(
		run{start: 100 * page, end: 110 * page, file: 1, offset: 20 * page},
		run{start: 200 * page, end: 210 * page, file: 1, offset: 0},
		run{start: 300 * page, end: 310 * page, file: 0, offset: 5 * page},
		run{start: 400 * page, end: 410 * page, file: 1, offset: 10 * page},
	)}
	p := placesOf(s)
	find := func(file int, from, to int64) []run { return p.find(file, from*page, to*page) }
	require.Empty(t, find(0, 0, 5))
	require.Empty(t, find(0, 15, 20))
	require.Empty(t, find(2, 0, 100))
	require.Equal(t, []run{{start: 300 * page, end: 301 * page, file: 0, offset: 5 * page}}, find(0, 0, 6))
	require.Equal(t, []run{{start: 309 * page, end: 310 * page, file: 0, offset: 14 * page}}, find(0, 14, 50))
	require.Equal(t, []run{{start: 403 * page, end: 404 * page, file: 1, offset: 13 * page}}, find(1, 13, 14))
	all := find(1, 9, 22)
	require.Equal(t, []run{
		{start: 209 * page, end: 210 * page, file: 1, offset: 9 * page},
		{start: 400 * page, end: 410 * page, file: 1, offset: 10 * page},
		{start: 100 * page, end: 102 * page, file: 1, offset: 20 * page},
	}, all)
}
