package pages

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The clone of these tests is the test's own binary, started once more. Its memory, at addresses that the test chooses, is
// registered with a userfaultfd as CRIU does it, and its threads do with it what the test orders: every order and answer is
// one message on a thread's own socket. A process that it forks takes over the socket of a thread that there isn't yet.

const (
	appEnv   = "CRIU_DOCKER_TEST_APP" // the app's regions
	threads  = 5                      // threads of the app
	sockets  = 12                     // the rest is for processes that it forks
	appBase  = uint64(1) << 44        // where its memory lies: far from everything that Go and the kernel choose
	regionOf = uint64(1) << 32        // distance of its regions
)

// region is memory of the app.
type region struct {
	Start, Length uint64
	WipeOnFork    bool
}

func (r region) page(n int) uint64 { return r.Start + uint64(n)*pageSize }

// What the app can be told, and the arguments.
const (
	opSum     = iota + 1 // address, length: the answer is sum
	opPeek               // address: the answer is a word from there, or an error, since the kernel reads it
	opTime               // address: the answer is how long it takes to look there, in ns
	opWrite              // address, length, first word
	opAdvise             // address, length, advice
	opRemap              // address, old length, new length, flags, new address
	opUnmap              // address, length
	opProtect            // address, length, protection
	opMap                // address, length
	opFork               // socket: the answer is the child's pid
	opWait               // pid
	opExit
)

type order [6]uint64

type answer struct {
	value uint64
	errno unix.Errno
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(appEnv); spec != "" {
		if err := runApp(spec); err != nil {
			fmt.Fprintln(os.Stderr, "app:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// runApp does not return unless it fails.
func runApp(spec string) error {
	var regions []region
	if err := json.Unmarshal([]byte(spec), &regions); err != nil {
		return err
	}
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return fmt.Errorf("userfaultfd: %w", errno)
	}
	const (
		version  = 0xaa
		features = 1<<1 | 1<<2 | 1<<3 | 1<<6 // fork, remap, remove, unmap
		api      = 0xc018aa3f
		register = 0xc020aa00
		missing  = 1
	)
	enable := struct{ api, features, ioctls uint64 }{version, features, 0}
	if err := uffd(fd).ioctl(api, unsafe.Pointer(&enable)); err != nil {
		return fmt.Errorf("UFFDIO_API: %w", err)
	}
	for _, r := range regions {
		if a := perform(&order{opMap, r.Start, r.Length}, 0); a.errno != 0 {
			return fmt.Errorf("mmap: %w", a.errno)
		}
		if r.WipeOnFork {
			if a := perform(&order{opAdvise, r.Start, r.Length, unix.MADV_WIPEONFORK}, 0); a.errno != 0 {
				return fmt.Errorf("madvise: %w", a.errno)
			}
		}
		reg := struct{ start, length, mode, ioctls uint64 }{r.Start, r.Length, missing, 0}
		if err := uffd(fd).ioctl(register, unsafe.Pointer(&reg)); err != nil {
			return fmt.Errorf("UFFDIO_REGISTER: %w", err)
		}
	}
	const first = 3
	if err := NewConn(first).Send(Message{Kind: KindTask, Task: 1}, int(fd)); err != nil {
		return err
	}
	if err := unix.Close(int(fd)); err != nil {
		return err
	}
	for i := uintptr(1); i < threads; i++ {
		go func() {
			runtime.LockOSThread()
			obey(first + i)
		}()
	}
	runtime.LockOSThread()
	obey(first)
	return nil
}

// obey does what it is told until the socket's other end is closed. It goes on in processes that it forks, where nothing of
// Go's runtime may be used, a thread that forks having no others there: hence nosplit, here and below.
//
//go:nosplit
func obey(socket uintptr) {
	var o order
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, socket, uintptr(unsafe.Pointer(&o)), unsafe.Sizeof(o))
		if errno == unix.EINTR {
			continue
		}
		if n == 0 || errno != 0 || o[0] == opExit {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		a := perform(&o, socket)
		if o[0] == opFork && a.value == 0 && a.errno == 0 {
			socket = uintptr(o[1])
			continue
		}
		if o[0] != opPeek || a.errno != 0 {
			_, _, _ = unix.RawSyscall(unix.SYS_WRITE, socket, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
		}
	}
}

//go:nosplit
func perform(o *order, socket uintptr) (a answer) {
	addr, length := uintptr(o[1]), uintptr(o[2])
	var v uintptr
	switch o[0] {
	case opSum:
		return answer{value: sum(o[1], o[2])}
	case opPeek:
		_, _, a.errno = unix.RawSyscall(unix.SYS_WRITE, socket, addr, 8)
	case opTime:
		start := now()
		v = uintptr(*word(o[1]) & 1) // so that it is looked at
		v = uintptr(now()-start) | v
	case opWrite:
		for i := range o[2] / 8 {
			*word(o[1] + 8*i) = o[3] + i
		}
	case opAdvise:
		_, _, a.errno = unix.RawSyscall(unix.SYS_MADVISE, addr, length, uintptr(o[3]))
	case opRemap:
		v, _, a.errno = unix.RawSyscall6(unix.SYS_MREMAP, addr, length, uintptr(o[3]), uintptr(o[4]), uintptr(o[5]), 0)
	case opUnmap:
		_, _, a.errno = unix.RawSyscall(unix.SYS_MUNMAP, addr, length, 0)
	case opProtect:
		_, _, a.errno = unix.RawSyscall(unix.SYS_MPROTECT, addr, length, uintptr(o[3]))
	case opMap:
		const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED | unix.MAP_NORESERVE
		_, _, a.errno = unix.RawSyscall6(unix.SYS_MMAP, addr, length, unix.PROT_READ|unix.PROT_WRITE, flags, ^uintptr(0), 0)
	case opFork:
		v, _, a.errno = unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	case opWait:
		v, _, a.errno = unix.RawSyscall6(unix.SYS_WAIT4, addr, 0, 0, 0, 0, 0)
	default:
		a.errno = unix.ENOSYS
	}
	a.value = uint64(v)
	return a
}

// word is a word of memory that Go knows nothing of.
//
//go:nosplit
func word(addr uint64) *uint64 { return *(**uint64)(unsafe.Pointer(&addr)) }

//go:nosplit
func now() int64 {
	var t unix.Timespec
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&t)), 0)
	return t.Sec*1e9 + t.Nsec
}

// sum is a hash of memory.
//
//go:nosplit
func sum(addr, length uint64) uint64 {
	h := uint64(14695981039346656037)
	for end := addr + length; addr < end; addr += 8 {
		h = (h ^ *word(addr)) * 1099511628211
	}
	return h
}

func sumOf(b []byte) uint64 {
	return sum(uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), uint64(len(b)))
}
