package pages

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestFork(t *testing.T) {
	a := newApp(t, region{Length: 4 * mib}, region{Length: mib, WipeOnFork: true}, region{Length: mib})
	r, secret, other := a.regions[0], a.regions[1], a.regions[2]
	s := a.serve(Options{})
	a.do(0, opWrite, r.Start, pageSize, 1000)
	a.do(0, opAdvise, r.page(1), pageSize, unix.MADV_DONTNEED)
	a.has(0, secret.Start, a.content[1][:pageSize])
	a.do(0, opAdvise, other.Start, mib, unix.MADV_DONTFORK)
	const child, grandchild = threads, threads + 1
	a.fork(1, child)
	a.do(0, opWrite, r.page(2), pageSize, 2000)      // the parent's own
	a.do(child, opWrite, r.page(3), pageSize, 3000)  // the child's own
	a.do(child, opWrite, r.page(20), pageSize, 4000) // which the grandchild gets as well
	a.fork(child, grandchild)
	a.do(child, opUnmap, r.page(30), pageSize)
	s.restored()
	s.done()

	written := func(first uint64) []byte {
		b := make([]byte, 0, pageSize)
		for i := range uint64(pageSize / 8) {
			b = appendWord(b, first+i)
		}
		return b
	}
	want := slices.Clone(a.content[0])
	copy(want, written(1000))
	clear(want[pageSize : 2*pageSize])
	parents, childs := slices.Clone(want), slices.Clone(want)
	copy(parents[2*pageSize:], written(2000))
	copy(childs[3*pageSize:], written(3000))
	copy(childs[20*pageSize:], written(4000))
	a.has(0, r.Start, parents)
	a.has(0, secret.Start, a.content[1])
	a.has(0, other.Start, a.content[2])
	a.has(child, r.Start, childs[:30*pageSize])
	a.has(child, r.page(31), childs[31*pageSize:])
	a.has(grandchild, r.Start, childs)
	for _, p := range []int{child, grandchild} {
		a.has(p, secret.Start, make([]byte, mib))
		require.Equal(t, answer{errno: unix.EFAULT}, <-a.order(p, opPeek, other.Start))
	}
}

func TestRemap(t *testing.T) {
	a := newApp(t, region{Length: 4 * mib}, region{Length: mib})
	r, other := a.regions[0], a.regions[1]
	s := a.serve(Options{})
	const fixed = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED
	elsewhere := appBase + 8*regionOf
	a.has(0, r.page(16), a.content[0][16*pageSize:17*pageSize])
	a.do(0, opRemap, r.page(8), 64*pageSize, 64*pageSize, fixed, elsewhere)                        // some of it is there
	a.do(0, opRemap, r.page(100), 4*pageSize, 4*pageSize, fixed, other.page(10))                   // in the place of others
	a.do(0, opRemap, r.page(200), 16*pageSize, 16*pageSize, fixed|mremapDontUnmap, other.page(50)) // zeros are left
	a.do(0, opRemap, r.page(300), 8*pageSize, 12*pageSize, fixed, elsewhere+mib)                   // grows
	a.do(0, opRemap, r.page(400), 8*pageSize, 2*pageSize, fixed, elsewhere+2*mib)                  // shrinks
	// Shrinks beside what is missing as well, of which it takes nothing.
	a.do(0, opRemap, r.page(500), 8*pageSize, 2*pageSize, fixed, other.page(100))
	s.restored()
	s.done()

	c := a.content[0]
	a.has(0, r.Start, c[:8*pageSize])
	require.Equal(t, answer{errno: unix.EFAULT}, <-a.order(0, opPeek, r.page(8)))
	a.has(0, r.page(72), c[72*pageSize:100*pageSize])
	a.has(0, r.page(104), c[104*pageSize:200*pageSize])
	a.has(0, r.page(200), make([]byte, 16*pageSize))
	a.has(0, elsewhere, c[8*pageSize:72*pageSize])
	a.has(0, elsewhere+mib, append(slices.Clone(c[300*pageSize:308*pageSize]), make([]byte, 4*pageSize)...))
	a.has(0, elsewhere+2*mib, c[400*pageSize:402*pageSize])
	want := slices.Clone(a.content[1])
	copy(want[10*pageSize:], c[100*pageSize:104*pageSize])
	copy(want[50*pageSize:], c[200*pageSize:216*pageSize])
	copy(want[100*pageSize:], c[500*pageSize:502*pageSize])
	a.has(0, other.Start, want)
}

const mremapDontUnmap = 4 // golang.org/x/sys has it only in newer versions

func TestRemove(t *testing.T) {
	a := newApp(t, region{Length: mib})
	r := a.regions[0]
	s := a.serve(Options{})
	a.has(0, r.Start, a.content[0][:pageSize]) // and 15 more
	a.do(0, opAdvise, r.page(8), 16*pageSize, unix.MADV_DONTNEED)
	a.has(0, r.page(8), make([]byte, 4*pageSize))
	s.restored()
	s.done()
	want := slices.Clone(a.content[0])
	clear(want[8*pageSize : 24*pageSize])
	a.has(0, r.Start, want)
}

func TestUnmap(t *testing.T) {
	a := newApp(t, region{Length: mib})
	r := a.regions[0]
	s := a.serve(Options{})
	a.do(0, opUnmap, r.page(8), 8*pageSize)
	a.do(0, opMap, r.page(8), 4*pageSize)
	a.do(0, opWrite, r.page(9), pageSize, 1)
	a.do(0, opMap, r.page(100), 4*pageSize) // over what is there
	s.restored()
	s.done()
	a.has(0, r.page(8), make([]byte, pageSize))
	a.has(0, r.page(10), make([]byte, 2*pageSize))
	a.has(0, r.page(100), make([]byte, 4*pageSize))
	require.Equal(t, answer{errno: unix.EFAULT}, <-a.order(0, opPeek, r.page(12)))
	a.has(0, r.page(16), a.content[0][16*pageSize:100*pageSize])
	a.has(0, r.page(104), a.content[0][104*pageSize:])
}

// A thread waits for memory that another takes away: it looks again, and finds nothing, or what is there now.
func TestUnmapUnderAFault(t *testing.T) {
	a := newApp(t, region{Length: mib})
	r := a.regions[0]
	src := late()
	s := a.serve(Options{Source: src})
	lost := a.order(1, opPeek, r.page(8))
	<-src.ensured
	replaced := a.order(2, opSum, r.page(50), pageSize)
	<-src.ensured
	removed := a.order(3, opSum, r.page(90), pageSize)
	<-src.ensured
	a.do(0, opUnmap, r.page(8), pageSize)
	a.do(0, opMap, r.page(50), pageSize)
	a.do(0, opAdvise, r.page(90), pageSize, unix.MADV_DONTNEED)
	src.set(nil)
	for range 3 {
		src.deliver <- nil
	}
	require.Equal(t, answer{errno: unix.EFAULT}, <-lost)
	zeros := answer{value: sumOf(make([]byte, pageSize))}
	require.Equal(t, zeros, <-replaced)
	require.Equal(t, zeros, <-removed)
	s.restored()
	s.done()
}

func TestDividedMappings(t *testing.T) {
	a := newApp(t, region{Length: 4 * mib})
	r := a.regions[0]
	s := a.serve(Options{})
	for page := 1; page < int(r.Length/pageSize); page += 37 {
		a.do(0, opProtect, r.page(page), 5*pageSize, unix.PROT_READ)
	}
	a.do(0, opProtect, r.page(500), 100*pageSize, unix.PROT_NONE)
	s.restored()
	s.done()
	a.do(0, opProtect, r.page(500), 100*pageSize, unix.PROT_READ)
	a.has(0, r.Start, a.content[0])
}

// What an app has given back is not brought back, and what it writes there afterwards is its own.
func TestDiscardedMemory(t *testing.T) {
	for _, advice := range []uint64{unix.MADV_DONTNEED, unix.MADV_FREE} {
		a := newApp(t, region{Length: 4 * mib})
		r, src := a.regions[0], late()
		s := a.serve(Options{Source: src}) // nothing is there yet
		a.do(0, opAdvise, r.page(100), 100*pageSize, advice)
		a.do(0, opWrite, r.page(150), pageSize, 1000)
		src.set(nil)
		s.restored()
		s.done()
		want := slices.Clone(a.content[0])
		clear(want[100*pageSize : 200*pageSize])
		for i := range uint64(pageSize / 8) {
			copy(want[150*pageSize+8*i:], appendWord(nil, 1000+i))
		}
		a.has(0, r.Start, want)
	}
}
