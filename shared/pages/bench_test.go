package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkFill compares the server with what CRIU does eagerly: preadv(2) into memory that was not touched before.
func BenchmarkFill(b *testing.B) {
	const size = 256 * mib
	var lazily, eagerly []time.Duration
	for b.Loop() {
		a := newApp(b, region{Length: size})
		eagerly = append(eagerly, readEagerly(b, filepath.Join(a.dir, "pages-1.img"), size))
		s := a.serve(Options{})
		start := time.Now()
		s.restored()
		s.done()
		lazily = append(lazily, time.Since(start))
		a.kill()
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	b.ReportMetric(size/mib/median(lazily), "MiB/s")
	b.ReportMetric(size/mib/median(eagerly), "eager-MiB/s")
	b.ReportMetric(median(eagerly)/median(lazily), "of-eager")
}

func readEagerly(b *testing.B, image string, size int) time.Duration {
	f, err := os.Open(image)
	require.NoError(b, err)
	defer f.Close()
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(b, err)
	defer func() { _ = unix.Munmap(memory) }()
	start := time.Now()
	for done := 0; done < size; {
		n, err := unix.Preadv(int(f.Fd()), [][]byte{memory[done:]}, int64(done))
		require.NoError(b, err)
		done += n
	}
	return time.Since(start)
}

// BenchmarkFault measures how long a thread waits for a page: while the server has nothing else to do, while it fills in the
// rest, and where nothing was frozen.
func BenchmarkFault(b *testing.B) {
	const size, faults = 256 * mib, 64
	measure := func(b *testing.B, restored, fresh bool) {
		var waits []uint64
		for b.Loop() {
			a := newApp(b, region{Length: size}, region{Length: faults * mib})
			s := a.serve(Options{})
			if fresh {
				a.do(1, opAdvise, a.regions[1].Start, faults*mib, unix.MADV_DONTNEED)
			}
			if restored {
				s.restored()
			}
			for n := range faults {
				waits = append(waits, a.do(1, opTime, a.regions[1].page(256*n+37)))
			}
			a.kill()
			if !restored {
				s.restored()
			}
			s.done()
		}
		slices.Sort(waits)
		for _, percent := range []int{50, 90, 99} {
			b.ReportMetric(float64(waits[len(waits)*percent/100])/1e3, fmt.Sprintf("µs-p%d", percent))
		}
	}
	b.Run("alone", func(b *testing.B) { measure(b, false, false) })
	b.Run("filling", func(b *testing.B) { measure(b, true, false) })
	b.Run("fresh", func(b *testing.B) { measure(b, false, true) })
}
