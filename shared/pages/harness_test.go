package pages

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// app is the running app, seen by the test, and its supervisor.
type app struct {
	t       testing.TB
	dir     string // of its images
	regions []region
	content [][]byte // by region, as in the images
	cmd     *exec.Cmd
	pids    []int // of processes that it has forked
	sockets []int
	uffds   []int // which a supervisor keeps until the memory is whole
	conn    *Conn // the supervisor's end
	server  *os.File
}

// newApp starts an app whose regions, of so many bytes, are all frozen with the content given; a region of which nothing is
// given has content of its own.
func newApp(t testing.TB, regions ...region) *app {
	t.Helper()
	a := &app{t: t, dir: t.TempDir(), regions: regions}
	seed := uint64(1)
	for i := range a.regions {
		r := &a.regions[i]
		if r.Start == 0 {
			r.Start = appBase + uint64(i)*regionOf
		}
		b := make([]byte, r.Length)
		for j := 0; j < len(b); j += 8 {
			seed ^= seed << 13
			seed ^= seed >> 7
			seed ^= seed << 17
			binary.NativeEndian.PutUint64(b[j:], seed)
		}
		a.content = append(a.content, b)
	}
	a.writeImages()
	a.startApp()
	var err error
	a.conn, a.server, err = Pipe()
	require.NoError(t, err)
	t.Cleanup(func() {
		a.conn.Close()
		a.server.Close()
	})
	return a
}

func (a *app) startApp() {
	spec, err := json.Marshal(a.regions)
	require.NoError(a.t, err)
	a.cmd = exec.Command(os.Args[0])
	a.cmd.Env = append(os.Environ(), appEnv+"="+string(spec),
		"GOMAXPROCS=32", "GOGC=off", "GODEBUG=asyncpreemptoff=1") // a thread in a page fault is one that Go believes to be running
	a.cmd.Stderr = os.Stderr
	for range sockets {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		require.NoError(a.t, err)
		require.NoError(a.t, unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60})) // or it hangs
		a.sockets = append(a.sockets, fds[0])
		a.cmd.ExtraFiles = append(a.cmd.ExtraFiles, os.NewFile(uintptr(fds[1]), "socket"))
	}
	require.NoError(a.t, a.cmd.Start())
	for _, f := range a.cmd.ExtraFiles {
		f.Close()
	}
	a.t.Cleanup(func() {
		for _, pid := range a.pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		a.kill()
		for _, fd := range a.sockets {
			_ = unix.Close(fd)
		}
		a.closeUffds()
	})
	m, fd, err := (&Conn{fd: a.sockets[0]}).Receive()
	require.NoError(a.t, err)
	require.Equal(a.t, KindTask, m.Kind)
	a.uffds = append(a.uffds, fd)
}

func (a *app) closeUffds() {
	for _, fd := range a.uffds {
		_ = unix.Close(fd)
	}
	a.uffds = nil
}

func (a *app) kill() {
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// writeImages writes what CRIU would have.
func (a *app) writeImages() {
	memory := &mm.MmEntry{
		MmStartCode: new(uint64), MmEndCode: new(uint64), MmStartData: new(uint64), MmEndData: new(uint64),
		MmStartStack: new(uint64), MmStartBrk: new(uint64), MmBrk: new(uint64), MmArgStart: new(uint64),
		MmArgEnd: new(uint64), MmEnvStart: new(uint64), MmEnvEnd: new(uint64), ExeFileId: new(uint32),
	}
	entries := []*crit.CriuEntry{{Message: &pagemap.PagemapHead{PagesId: proto.Uint32(1)}}}
	pages, err := os.Create(filepath.Join(a.dir, "pages-1.img"))
	require.NoError(a.t, err)
	defer pages.Close()
	for i, r := range a.regions {
		v := &vma.VmaEntry{
			Start: proto.Uint64(r.Start), End: proto.Uint64(r.Start + r.Length), Pgoff: new(uint64), Shmid: new(uint64),
			Prot: new(uint32), Flags: new(uint32), Status: new(uint32), Fd: new(int64),
		}
		if r.WipeOnFork {
			v.Madv = proto.Uint64(1 << unix.MADV_WIPEONFORK)
		}
		memory.Vmas = append(memory.Vmas, v)
		const lazyAndPresent = 1<<1 | 1<<2
		entries = append(entries, &crit.CriuEntry{Message: &pagemap.PagemapEntry{
			Vaddr: proto.Uint64(r.Start), CompatNrPages: new(uint32), NrPages: proto.Uint64(r.Length / pageSize),
			Flags: proto.Uint32(lazyAndPresent),
		}})
		_, err := pages.Write(a.content[i])
		require.NoError(a.t, err)
	}
	a.writeImage("pagemap-1.img", &crit.CriuImage{Magic: "PAGEMAP", EntryType: &pagemap.PagemapEntry{}, Entries: entries})
	a.writeImage("mm-1.img", &crit.CriuImage{Magic: "MM", EntryType: &mm.MmEntry{}, Entries: []*crit.CriuEntry{{Message: memory}}})
}

func (a *app) writeImage(name string, img *crit.CriuImage) {
	f, err := os.Create(filepath.Join(a.dir, name))
	require.NoError(a.t, err)
	defer f.Close()
	require.NoError(a.t, crit.New(nil, f, "", false, false).Encode(img))
}

// order gives an order to the thread or process at a socket; the channel gets its answer.
func (a *app) order(socket int, op uint64, args ...uint64) <-chan answer {
	o := order{op}
	copy(o[1:], args)
	b := (*[unsafe.Sizeof(o)]byte)(unsafe.Pointer(&o))[:]
	_, err := unix.Write(a.sockets[socket], b)
	require.NoError(a.t, err)
	answers := make(chan answer, 1)
	go func() {
		var r answer
		b := (*[unsafe.Sizeof(r)]byte)(unsafe.Pointer(&r))[:]
		switch n, err := readAgain(a.sockets[socket], b); {
		case err != nil && !errors.As(err, &r.errno), n == 0:
			r.errno = unix.EPIPE // the app is gone
		}
		answers <- r
	}()
	return answers
}

func readAgain(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// do gives an order and waits for it to be done.
func (a *app) do(socket int, op uint64, args ...uint64) uint64 {
	a.t.Helper()
	r := <-a.order(socket, op, args...)
	require.Zero(a.t, r.errno, "order %d %#x: %s", op, args, r.errno)
	return r.value
}

// fork lets a thread fork; the child is at another socket.
func (a *app) fork(socket, child int) int {
	a.t.Helper()
	const first = 3
	pid := int(a.do(socket, opFork, uint64(first+child)))
	a.pids = append(a.pids, pid)
	return pid
}

// has checks memory of the process at a socket.
func (a *app) has(socket int, addr uint64, want []byte) {
	a.t.Helper()
	require.Equal(a.t, sumOf(want), a.do(socket, opSum, addr, uint64(len(want))), "content at %#x", addr)
}

// present reports whether a page of a process is there.
func (a *app) present(pid int, addr uint64) bool {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/pagemap")
	require.NoError(a.t, err)
	defer f.Close()
	var b [8]byte
	_, err = f.ReadAt(b[:], int64(addr/pageSize*8))
	require.NoError(a.t, err)
	return binary.NativeEndian.Uint64(b[:])>>62 != 0
}

// resident is how much memory the app has of its own, in bytes.
func (a *app) resident() uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(a.cmd.Process.Pid) + "/status")
	require.NoError(a.t, err)
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	kib, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	require.NoError(a.t, err)
	return kib << 10
}

// zeroSome makes parts of what is frozen zeros.
func (a *app) zeroSome() {
	for _, b := range a.content {
		for page := range len(b) / pageSize {
			if page/5%3 == 1 || page%7 == 6 {
				clear(b[page*pageSize : (page+1)*pageSize])
			}
		}
	}
	a.writeImages()
}

// service is a server at work.
type service struct {
	*app
	messages chan Message // what it says, KindTask excepted; closed at its end
	err      error        // of Serve, when messages is closed
}

// serve starts a server that knows of the app's memory.
func (a *app) serve(opts Options) *service {
	a.t.Helper()
	opts.Dir = a.dir
	s := &service{app: a, messages: make(chan Message, 1)}
	theirs, err := unix.FcntlInt(a.server.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(a.t, err)
	require.NoError(a.t, a.server.Close())
	require.NoError(a.t, a.conn.Send(Message{Kind: KindTask, Task: 1}, a.uffds[0]))
	served, heard := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		conn := NewConn(theirs)
		defer conn.Close()
		s.err = Serve(a.t.Context(), conn, opts)
	}()
	go func() {
		defer close(heard)
		for {
			m, fd, err := a.conn.Receive()
			if err != nil {
				return
			}
			switch m.Kind {
			case KindTask:
				a.uffds = append(a.uffds, fd)
				continue
			case KindDone:
				a.closeUffds()
			}
			s.messages <- m
		}
	}()
	go func() {
		<-served
		<-heard
		close(s.messages)
	}()
	a.t.Cleanup(func() {
		for range s.messages {
		}
	})
	return s
}

// restored tells the server that CRIU is done.
func (s *service) restored() {
	s.t.Helper()
	require.NoError(s.t, s.conn.Send(Message{Kind: KindFinished}, -1))
}

// last returns the server's last word and what Serve returned.
func (s *service) last() (Message, error) {
	s.t.Helper()
	var last Message
	timeout := time.After(time.Minute)
	for {
		select {
		case m, ok := <-s.messages:
			if !ok {
				return last, s.err
			}
			last = m
		case <-timeout:
			require.FailNow(s.t, "the server does not end")
		}
	}
}

// done waits for the server to have filled in everything.
func (s *service) done() {
	s.t.Helper()
	m, err := s.last()
	require.NoError(s.t, err)
	require.Equal(s.t, Message{Kind: KindDone}, m)
}
