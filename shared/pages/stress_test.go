package pages

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// memory is what a test believes of a part of the app's memory that one of the app's threads has for its own: twice the
// size of the region at its beginning, so that there is room to move things.
type memory struct {
	*app
	socket int
	base   uint64
	pages  []pageState
	random *rand.Rand
	next   uint64 // what is written next
	spare  []int  // sockets for children
	childs []child
}

type child struct {
	socket int
	pages  []pageState
}

type pageState struct {
	mapped, readOnly bool
	sum              uint64
}

var zeroSum = sumOf(make([]byte, pageSize))

func newMemory(a *app, socket, region int, seed uint64, spare ...int) *memory {
	m := &memory{app: a, socket: socket, base: a.regions[region].Start, random: rand.New(rand.NewPCG(seed, 0)), spare: spare}
	content := a.content[region]
	m.pages = make([]pageState, 2*len(content)/pageSize)
	for i := range len(content) / pageSize {
		m.pages[i] = pageState{mapped: true, sum: sumOf(content[i*pageSize : (i+1)*pageSize])}
	}
	return m
}

func (m *memory) addr(page int) uint64 { return m.base + uint64(page)*pageSize }

// some chooses a range of up to so many pages.
func (m *memory) some(most int) (page, n int) {
	n = 1 + m.random.IntN(most)
	return m.random.IntN(len(m.pages) - n), n
}

// mapped cuts a range behind the first page that is not mapped, or can't be written if that is to be done.
func (m *memory) mapped(page, n int, write bool) int {
	for i, p := range m.pages[page : page+n] {
		if !p.mapped || write && p.readOnly {
			return i
		}
	}
	return n
}

func (m *memory) bytes(n int) uint64 { return uint64(n) * pageSize }

// step does something to the memory.
func (m *memory) step() {
	page, n := m.some(24)
	switch m.random.IntN(16) {
	case 0, 1, 2, 3, 4:
		for i := range m.mapped(page, n, false) {
			m.check(m.socket, page+i, m.pages[page+i])
		}
	case 5, 6, 7:
		for i := range m.mapped(page, n, true) {
			m.write(page + i)
		}
	case 8, 9:
		if n = m.mapped(page, n, false); n > 0 {
			m.do(m.socket, opAdvise, m.addr(page), m.bytes(n), unix.MADV_DONTNEED)
			for i := range n {
				m.pages[page+i].sum = zeroSum
			}
		}
	case 10:
		m.unmap(page, n)
	case 11:
		m.do(m.socket, opMap, m.addr(page), m.bytes(n))
		for i := range n {
			m.pages[page+i] = pageState{mapped: true, sum: zeroSum}
		}
	case 12:
		if n = m.mapped(page, n, false); n > 0 {
			readOnly := m.random.IntN(3) == 0
			protection := uint64(unix.PROT_READ | unix.PROT_WRITE)
			if readOnly {
				protection = unix.PROT_READ
			}
			m.do(m.socket, opProtect, m.addr(page), m.bytes(n), protection)
			for i := range n {
				m.pages[page+i].readOnly = readOnly
			}
		}
	case 13, 14:
		m.remap(page, m.mapped(page, n, false))
	case 15:
		if len(m.spare) > 0 && m.random.IntN(4) == 0 {
			m.fork(m.socket, m.spare[0])
			m.childs = append(m.childs, child{m.spare[0], slices.Clone(m.pages)})
			m.spare = m.spare[1:]
		}
	}
}

func (m *memory) unmap(page, n int) {
	m.do(m.socket, opUnmap, m.addr(page), m.bytes(n))
	clear(m.pages[page : page+n])
}

func (m *memory) write(page int) {
	m.next += pageSize
	m.do(m.socket, opWrite, m.addr(page), pageSize, m.next)
	var b []byte
	for i := range uint64(pageSize / 8) {
		b = appendWord(b, m.next+i)
	}
	m.pages[page].sum = sumOf(b)
}

// remap moves pages, and more or fewer arrive.
func (m *memory) remap(page, n int) {
	if n == 0 {
		return
	}
	to, size := m.random.IntN(len(m.pages)-32), n
	switch m.random.IntN(4) {
	case 0:
		size = 1 + m.random.IntN(n)
	case 1:
		size = n + m.random.IntN(4)
	}
	if to < page+n && page < to+size {
		return
	}
	flags := uint64(unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED)
	if size == n && m.random.IntN(4) == 0 {
		flags |= mremapDontUnmap
	}
	r := <-m.order(m.socket, opRemap, m.addr(page), m.bytes(n), m.bytes(size), flags, m.addr(to))
	if r.errno != 0 { // there is more than one mapping, and how much was done before that was noticed depends on the kernel
		require.Equal(m.t, unix.EFAULT, r.errno)
		m.unmap(page, n)
		m.unmap(to, size)
		return
	}
	for i := range size {
		state := pageState{mapped: true, readOnly: m.pages[page].readOnly, sum: zeroSum}
		if i < n {
			state = m.pages[page+i]
		}
		m.pages[to+i] = state
	}
	for i := range n {
		if flags&mremapDontUnmap != 0 {
			m.pages[page+i].sum = zeroSum
			continue
		}
		m.pages[page+i] = pageState{}
	}
}

func (m *memory) check(socket, page int, want pageState) {
	if !want.mapped {
		return
	}
	require.Equal(m.t, want.sum, m.do(socket, opSum, m.addr(page), pageSize), "page at %#x", m.addr(page))
}

func (m *memory) checkAll() {
	for i, p := range m.pages {
		m.check(m.socket, i, p)
	}
	for _, c := range m.childs {
		for i, p := range c.pages {
			m.check(c.socket, i, p)
		}
	}
}

// slow is a Source that is as fast as the app is, and has some pages before the server asks for them.
type slow struct {
	mu    sync.Mutex
	there map[int64]bool // by offset
	steps chan struct{}  // of the app; closed when it is done
}

func newSlow(size int64, random *rand.Rand) *slow {
	s := &slow{there: map[int64]bool{}, steps: make(chan struct{}, 1<<16)}
	for offset := int64(0); offset < size; offset += window {
		if random.IntN(2) == 0 {
			for end, o := offset+window, offset; o < end; o += pageSize {
				s.there[o] = true
			}
		}
	}
	return s
}

func (s *slow) Has(r Range) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := r.Offset; o < r.Offset+r.Length; o += pageSize {
		if !s.there[o] {
			return false
		}
	}
	return true
}

func (s *slow) Ensure(ctx context.Context, r Range) error {
	if r.Length > pageSize { // no fault
		select {
		case <-s.steps:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := r.Offset; o < r.Offset+r.Length; o += pageSize {
		s.there[o] = true
	}
	return nil
}

func (s *slow) FetchAll(context.Context) error { return nil }

// Three threads do to 64 MB what apps do to memory, while the server fills it in, and there is nothing but what they expect;
// their children have what was there when they were forked.
func TestStress(t *testing.T) {
	const rounds, steps = 6, 3000
	for round := range uint64(rounds) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			a := newApp(t, region{Length: 32 * mib}, region{Length: 16 * mib}, region{Length: 16 * mib})
			a.zeroSome()
			parts := []*memory{newMemory(a, 1, 0, 10*round, 5, 6), newMemory(a, 2, 1, 10*round+1, 7, 8), newMemory(a, 3, 2, 10*round+2, 9, 10)}
			var opts Options
			src := newSlow(64*mib, rand.New(rand.NewPCG(round, 0)))
			if round%2 == 1 {
				opts.Source = src
			}
			s := a.serve(opts)
			s.restored()
			var wg sync.WaitGroup
			for _, m := range parts {
				wg.Go(func() {
					for i := range steps {
						if i%4 == 0 {
							src.steps <- struct{}{}
						}
						m.step()
					}
				})
			}
			wg.Wait()
			close(src.steps)
			s.done()
			for _, m := range parts {
				m.checkAll()
			}
		})
	}
}
