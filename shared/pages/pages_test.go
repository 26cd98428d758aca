package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const mib = 1 << 20

func TestFillsInEverything(t *testing.T) {
	a := newApp(t, region{Length: 8 * mib}, region{Length: 12 * pageSize}, region{Length: 3 * mib})
	s := a.serve(Options{})
	a.has(0, a.regions[0].page(17), a.content[0][17*pageSize:18*pageSize])
	require.True(t, a.present(a.cmd.Process.Pid, a.regions[0].page(31)), "neighbours come with it")
	require.False(t, a.present(a.cmd.Process.Pid, a.regions[0].page(32)))
	require.False(t, a.present(a.cmd.Process.Pid, a.regions[1].Start), "nothing is filled in that nobody asks for before CRIU is done")

	s.restored()
	s.done()
	for i, r := range a.regions {
		for n := range int(r.Length / pageSize) {
			require.True(t, a.present(a.cmd.Process.Pid, r.page(n)), "page %d of region %d", n, i)
		}
		a.has(0, r.Start, a.content[i])
	}
}

func TestZerosCostNoMemory(t *testing.T) {
	a := newApp(t, region{Length: 64 * mib})
	a.zeroSome()
	zeros := uint64(bytes.Count(a.content[0], make([]byte, pageSize))) * pageSize
	require.Greater(t, zeros, uint64(16*mib))
	before := a.resident()
	s := a.serve(Options{})
	s.restored()
	s.done()
	a.has(0, a.regions[0].Start, a.content[0])
	require.InDelta(t, 64*mib-zeros, a.resident()-before, 2*mib)
	a.do(0, opWrite, a.regions[0].Start, 64*mib, 1)
	require.InDelta(t, 64*mib, a.resident()-before, 2*mib)
}

// Memory that was not frozen is supplied in pieces, as far as there is nothing else.
func TestFreshMemory(t *testing.T) {
	a := newApp(t, region{Length: mib}, region{Start: appBase + mib, Length: mib})
	r, pid := a.regions[0], a.cmd.Process.Pid
	s := a.serve(Options{})
	a.do(0, opAdvise, r.page(16), 32*pageSize, unix.MADV_DONTNEED)
	a.do(0, opUnmap, r.page(61), pageSize)
	a.do(0, opAdvise, r.page(60), pageSize, unix.MADV_DONTNEED)
	a.has(0, r.page(17), make([]byte, pageSize))
	require.False(t, a.present(pid, r.page(16)))
	require.True(t, a.present(pid, r.page(31)))
	require.False(t, a.present(pid, r.page(32)))
	a.do(0, opAdvise, r.page(40), 4*pageSize, unix.MADV_DONTNEED)
	a.has(0, r.page(44), make([]byte, pageSize))
	a.has(0, r.page(41), make([]byte, pageSize)) // up to what is there
	a.has(0, r.page(60), make([]byte, pageSize)) // up to what is not
	s.restored()
	s.done()
	want := slices.Clone(a.content[0])
	clear(want[16*pageSize : 48*pageSize])
	clear(want[60*pageSize : 61*pageSize])
	a.has(0, r.Start, want[:61*pageSize])
	a.has(0, r.page(62), want[62*pageSize:])
	a.has(0, a.regions[1].Start, a.content[1])
}

// An app that needs more memory than it may have is killed by the kernel, as it would be without a server.
func TestOutOfMemory(t *testing.T) {
	a := newApp(t, region{Length: 64 * mib})
	limitMemory(t, a.cmd.Process.Pid, 16*mib)
	s := a.serve(Options{})
	s.restored()
	s.done()
	var exit *exec.ExitError
	require.ErrorAs(t, a.cmd.Wait(), &exit)
	require.Equal(t, unix.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
}

// limitMemory moves a process, which must have ended when the test has, into a cgroup of its own.
func limitMemory(t *testing.T, pid int, limit int64) {
	const root = "/sys/fs/cgroup"
	set := func(path, value string) { require.NoError(t, os.WriteFile(path, []byte(value), 0)) }
	dir, file := filepath.Join(root, "memory", "criu-docker-test"), "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		set(filepath.Join(root, "cgroup.subtree_control"), "+memory")
		dir, file = filepath.Join(root, "criu-docker-test"), "memory.max"
	}
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.Remove(dir) == nil }, time.Minute, time.Millisecond)
	})
	set(filepath.Join(dir, file), strconv.FormatInt(limit, 10))
	if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil {
		set(filepath.Join(dir, "memory.swap.max"), "0")
	}
	set(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
}

// What the server has taken over, it gives back.
func TestLeaksNothing(t *testing.T) {
	run := func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		s := a.serve(Options{})
		a.fork(1, threads)
		s.restored()
		s.done()
		a.do(threads, opSum, a.regions[0].Start, mib)
	}
	t.Run("at first", run) // what Go itself keeps is there from now on
	count := func(kind string) (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		for _, e := range entries {
			if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(target, kind) {
				n++
			}
		}
		return n
	}
	events := count("eventfd")
	goroutines := runtime.NumGoroutine()
	t.Run("again", run)
	require.Zero(t, count("userfaultfd"))
	require.Equal(t, events, count("eventfd"))
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		require.True(t, time.Now().Before(end), "goroutines are left")
	}
}

// source is a Source that delivers as it is told.
type source struct {
	mu      sync.Mutex
	there   func(Range) bool // nil: everything is
	asked   []Range
	ensured chan Range    // if set, gets what is asked for, which is not there before
	deliver chan error    // something is taken from it
	fetched chan struct{} // FetchAll returns when it is closed, if it is set
}

func (s *source) Has(r Range) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.there == nil || s.there(r)
}

func (s *source) Ensure(ctx context.Context, r Range) error {
	s.mu.Lock()
	s.asked = append(s.asked, r)
	there := s.there == nil || s.there(r)
	s.mu.Unlock()
	if there {
		return nil
	}
	select {
	case s.ensured <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-s.deliver:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *source) FetchAll(ctx context.Context) error {
	if s.fetched == nil {
		return nil
	}
	select {
	case <-s.fetched:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *source) set(there func(Range) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.there = there
}

func nothing(Range) bool { return false }

// late is a source that has nothing yet.
func late() *source {
	return &source{there: nothing, ensured: make(chan Range), deliver: make(chan error)}
}

func TestWhatIsNeededFirstComesFirst(t *testing.T) {
	a := newApp(t, region{Length: 2 * mib}, region{Length: mib})
	first := []Range{
		{"pages-1.img", 2*mib + 8*pageSize, 4 * pageSize}, // of the second region
		{"pages-7.img", 0, pageSize},                      // of shared memory
		{"pages-1.img", mib, pageSize},
		{"pages-1.img", 2*mib - pageSize, 2 * pageSize}, // the end of the first and the beginning of the second
	}
	src := &source{}
	s := a.serve(Options{Source: src, First: first})
	s.restored()
	s.done()
	want := []Range{
		first[0], first[2],
		{"pages-1.img", 2*mib - pageSize, pageSize},
		{"pages-1.img", 2 * mib, pageSize},
	}
	require.Equal(t, want, src.asked[:4])
	rest := src.asked[4:]
	require.Equal(t, Range{"pages-1.img", 0, chunk}, rest[0])
	require.True(t, slices.IsSortedFunc(rest, func(a, b Range) int { return int(a.Offset - b.Offset) }), "the rest by address: %v", rest)
	var length int64
	for _, r := range src.asked {
		length += r.Length
	}
	require.EqualValues(t, 3*mib, length, "nothing twice")
	for i, r := range a.regions {
		a.has(0, r.Start, a.content[i])
	}
}

func TestContentThatComesLater(t *testing.T) {
	a := newApp(t, region{Length: mib})
	want := a.content[0]
	image, err := os.OpenFile(filepath.Join(a.dir, "pages-1.img"), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer image.Close()
	require.NoError(t, image.Truncate(0))
	require.NoError(t, image.Truncate(mib)) // a hole
	src := late()
	src.fetched = make(chan struct{})
	s := a.serve(Options{Source: src})
	at := a.regions[0].page(40)

	waiting := a.order(1, opSum, at, pageSize)
	require.Equal(t, Range{"pages-1.img", 40 * pageSize, pageSize}, <-src.ensured, "no more than is needed")
	// The server goes on with others meanwhile.
	a.do(0, opAdvise, a.regions[0].page(200), pageSize, unix.MADV_DONTNEED)
	a.has(0, a.regions[0].page(200), make([]byte, pageSize))
	a.fork(2, threads)
	child := a.order(threads, opSum, at, pageSize)
	require.Equal(t, Range{"pages-1.img", 40 * pageSize, pageSize}, <-src.ensured)
	require.Empty(t, waiting)
	require.Empty(t, child)

	_, err = image.WriteAt(want[40*pageSize:41*pageSize], 40*pageSize)
	require.NoError(t, err)
	src.set(func(r Range) bool { return r == Range{"pages-1.img", 40 * pageSize, pageSize} })
	src.deliver <- nil
	src.deliver <- nil
	require.Equal(t, answer{value: sumOf(want[40*pageSize : 41*pageSize])}, <-waiting)
	require.Equal(t, answer{value: sumOf(want[40*pageSize : 41*pageSize])}, <-child)

	_, err = image.WriteAt(want, 0)
	require.NoError(t, err)
	src.set(nil)
	s.restored()
	a.has(0, a.regions[0].Start, want[:200*pageSize])
	require.Empty(t, s.messages, "not before everything is fetched: others use the file as well")
	close(src.fetched)
	s.done()
	a.has(threads, a.regions[0].Start, want[:200*pageSize])
	a.has(threads, a.regions[0].page(201), want[201*pageSize:])
}

func TestContentThatDoesNotCome(t *testing.T) {
	a := newApp(t, region{Length: mib})
	src := late()
	s := a.serve(Options{Source: src})
	waiting := a.order(1, opSum, a.regions[0].Start, pageSize)
	<-src.ensured
	failure := errors.New("the bucket is gone")
	src.deliver <- failure
	m, err := s.last()
	require.ErrorIs(t, err, failure)
	require.Equal(t, Message{Kind: KindFailed, Error: failure.Error()}, m)
	require.Empty(t, waiting, "the supervisor has the userfaultfd: nobody gets zeros")
	a.kill()
}

func TestContentThatIsLost(t *testing.T) {
	a := newApp(t, region{Length: mib})
	s := a.serve(Options{})
	a.has(0, a.regions[0].Start, a.content[0][:pageSize])
	require.NoError(t, os.Truncate(filepath.Join(a.dir, "pages-1.img"), mib/2))
	s.restored()
	m, err := s.last()
	require.ErrorContains(t, err, "page image pages-1.img can't be read at")
	require.Equal(t, KindFailed, m.Kind)
	a.kill()
}

func TestRecorder(t *testing.T) {
	a := newApp(t, region{Length: mib}, region{Length: mib})
	var record bytes.Buffer
	s := a.serve(Options{Record: NewRecorder(&record)})
	s.restored()
	var want strings.Builder
	for _, page := range []int{100, 3, 4, 255, 0} {
		for i, r := range a.regions {
			a.has(0, r.page(page), a.content[i][page*pageSize:(page+1)*pageSize])
			a.has(0, r.page(page), a.content[i][page*pageSize:(page+1)*pageSize])
			fmt.Fprintf(&want, "pages-1.img %d\n", i*mib+page*pageSize)
		}
	}
	present := 0
	for n := range int(a.regions[0].Length / pageSize) {
		if a.present(a.cmd.Process.Pid, a.regions[0].page(n)) {
			present++
		}
	}
	require.Equal(t, 5, present)
	a.kill()
	s.done() // it sees by itself that nobody is there any more
	require.Equal(t, want.String(), record.String())
}

func TestSupervisor(t *testing.T) {
	t.Run("dies before the clone runs", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		s := a.serve(Options{})
		a.conn.Close()
		_, err := s.last()
		require.ErrorIs(t, err, errAbandoned)
	})
	t.Run("dies later", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		src := late()
		s := a.serve(Options{Source: src})
		s.restored()
		<-src.ensured
		require.NoError(t, a.conn.Send(Message{Kind: KindReleased}, -1))
		// A supervisor that is killed leaves unread what the server has said.
		ours, err := unix.FcntlInt(uintptr(a.conn.fd), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Shutdown(a.conn.fd, unix.SHUT_RD))
		require.NoError(t, unix.Close(ours))
		a.conn.Close()
		a.fork(1, threads)
		src.set(nil)
		src.deliver <- nil
		_, err = s.last()
		require.NoError(t, err)
		a.has(0, a.regions[0].Start, a.content[0])
		a.has(threads, a.regions[0].Start, a.content[0])
	})
	t.Run("dies before it kills a clone that is lost", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		src := late()
		s := a.serve(Options{Source: src})
		s.restored()
		<-src.ensured
		clone, err := unix.PidfdOpen(a.cmd.Process.Pid, 0)
		require.NoError(t, err)
		require.NoError(t, a.conn.Send(Message{Kind: KindReleased}, clone))
		waiting := a.order(0, opPeek, a.regions[0].page(100))
		<-src.ensured  // so the message has been read, in its turn
		a.closeUffds() // as the kernel does
		src.deliver <- errors.New("gone from the store")
		require.Equal(t, KindFailed, (<-s.messages).Kind)
		a.conn.Close()
		require.Equal(t, answer{errno: unix.EPIPE}, <-waiting, "it dies before it reads what is not there")
		_, err = s.last()
		require.ErrorContains(t, err, "gone from the store")
	})
	t.Run("says that the clone has ended", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		s := a.serve(Options{Record: NewRecorder(&bytes.Buffer{})})
		s.restored()
		a.has(0, a.regions[0].Start, a.content[0][:pageSize])
		require.NoError(t, a.conn.Send(Message{Kind: KindEnded}, -1))
		_, err := s.last()
		require.ErrorIs(t, err, errAbandoned)
	})
	t.Run("says what nobody understands", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		s := a.serve(Options{})
		require.NoError(t, a.conn.Send(Message{Kind: "hello"}, -1))
		m, err := s.last()
		require.ErrorContains(t, err, `says "hello"`)
		require.Equal(t, KindFailed, m.Kind)
	})
	t.Run("of a process without images", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		require.NoError(t, os.Remove(filepath.Join(a.dir, "pages-1.img")))
		s := a.serve(Options{})
		_, err := s.last()
		require.ErrorIs(t, err, os.ErrNotExist)
	})
	t.Run("of a process whose pages are cut off", func(t *testing.T) {
		a := newApp(t, region{Length: mib})
		require.NoError(t, os.Truncate(filepath.Join(a.dir, "pages-1.img"), mib-pageSize))
		s := a.serve(Options{})
		_, err := s.last()
		require.ErrorContains(t, err, "has 1044480 bytes")
	})
}

func TestProcessEndsMeanwhile(t *testing.T) {
	a := newApp(t, region{Length: 8 * mib})
	src := late()
	s := a.serve(Options{Source: src})
	pid := a.fork(1, threads)
	waiting := a.order(threads, opPeek, a.regions[0].Start)
	s.restored()
	<-src.ensured
	<-src.ensured
	require.NoError(t, unix.Kill(pid, unix.SIGKILL))
	a.do(1, opWait, uint64(pid))
	a.kill()
	src.set(nil)
	src.deliver <- nil
	src.deliver <- nil
	s.done()
	require.Equal(t, answer{errno: unix.EPIPE}, <-waiting)
}

func appendWord(b []byte, w uint64) []byte {
	return append(b, byte(w), byte(w>>8), byte(w>>16), byte(w>>24), byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56))
}

// TestManyChildren: an app may start thousands of processes before its memory is there. What is done for each ends with it, and a
// thread serves all of them.
func TestManyChildren(t *testing.T) {
	a := newApp(t, region{Length: 8 * mib})
	r, src := a.regions[0], late()
	s := a.serve(Options{Source: src})
	a.fork(0, threads)
	src.set(func(Range) bool { return true }) // what the app asks for is there, and the rest comes when it is told
	threadsOf := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		require.NoError(t, err)
		return len(tasks)
	}
	before, routines := threadsOf(), runtime.NumGoroutine()
	const child, many = threads + 1, 300
	for i := range many {
		pid := a.fork(0, child)
		a.has(child, r.page(i), a.content[0][i*pageSize:(i+1)*pageSize])
		require.NoError(t, unix.Kill(pid, unix.SIGKILL))
		a.do(0, opWait, uint64(pid))
	}
	require.Less(t, threadsOf()-before, many/10)
	require.Less(t, runtime.NumGoroutine()-routines, many/10)
	a.has(threads, r.Start, a.content[0])
	s.restored()
	s.done()
}
