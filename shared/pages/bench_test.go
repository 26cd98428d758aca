package pages

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkFill compares the server with what CRIU does eagerly: preadv(2) into memory that nobody has touched.
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
	defer unix.Munmap(memory)
	start := time.Now()
	for done := 0; done < size; {
		n, err := unix.Preadv(int(f.Fd()), [][]byte{memory[done:]}, int64(done))
		require.NoError(b, err)
		done += n
	}
	return time.Since(start)
}

// BenchmarkFault measures how long a thread waits for a page: while nothing else is to be done, while the server fills in
// the rest, and for memory that is fresh.
func BenchmarkFault(b *testing.B) {
	const size = 256 * mib
	faults := func(b *testing.B, s *service, r region, stride int) {
		var waits []time.Duration
		for n := stride - 1; n < int(r.Length/pageSize); n += stride {
			start := time.Now()
			s.do(1, opSum, r.page(n), 8)
			waits = append(waits, time.Since(start))
		}
		slices.Sort(waits)
		b.ReportMetric(waits[len(waits)/2].Seconds()*1e6, "µs/fault")
		b.ReportMetric(waits[len(waits)*99/100].Seconds()*1e6, "µs-p99")
	}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			a := newApp(b, region{Length: size})
			s := a.serve(Options{})
			faults(b, s, a.regions[0], 64)
			a.kill()
			s.restored()
			s.done()
		}
	})
	b.Run("filling", func(b *testing.B) {
		for b.Loop() {
			a := newApp(b, region{Length: size}, region{Length: 64 * mib})
			s := a.serve(Options{})
			s.restored()
			faults(b, s, a.regions[1], 1024)
			s.done()
			a.kill()
		}
	})
}
