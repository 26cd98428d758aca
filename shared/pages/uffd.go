package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What linux/userfaultfd.h says and golang.org/x/sys does not.
const (
	uffdioWake     = 0x8010aa02
	uffdioCopy     = 0xc028aa03
	uffdioZeropage = 0xc020aa04
	uffdioProtect  = 0xc018aa06 // UFFDIO_WRITEPROTECT

	eventPagefault = 0x12
	eventFork      = 0x13
	eventRemap     = 0x14
	eventRemove    = 0x15
	eventUnmap     = 0x16

	messageSize = 32
)

// Supported reports whether this kernel lets a page server work.
func Supported() error {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return fmt.Errorf("this kernel has no userfaultfd: %w", errno)
	}
	return unix.Close(int(fd))
}

// Ended reports whether the process has whose memory a userfaultfd is of.
func Ended(fd int) bool { return !uffd(fd).alive() }

// uffd is the userfaultfd of a process's memory.
type uffd int

// message is an event of a process's memory. The kernel lets the process go on only when it has been read.
type message struct {
	event   byte
	a, b, c uint64 // the event's three words
}

// read returns the events that wait; it is not an error if there are none.
func (u uffd) read() ([]message, error) {
	var buf [16 * messageSize]byte
	n, err := unix.Read(int(u), buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("userfaultfd: read: %w", err)
	}
	var list []message
	for b := buf[:n]; len(b) >= messageSize; b = b[messageSize:] {
		list = append(list, message{
			event: b[0],
			a:     binary.NativeEndian.Uint64(b[8:]),
			b:     binary.NativeEndian.Uint64(b[16:]),
			c:     binary.NativeEndian.Uint64(b[24:]),
		})
	}
	return list, nil
}

// copy fills memory at addr with src, whole pages that are not there yet, and wakes the threads that wait for them. It returns how
// many bytes were filled, which may be some even with an error: EAGAIN when an event has to be read first, EEXIST when a
// page is there, ENOENT when the range is not within one mapping, ESRCH when the process is gone.
func (u uffd) copy(addr uint64, src []byte) (int, error) {
	arg := struct{ dst, src, length, mode, copied uint64 }{
		dst: addr, src: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(src)))), length: uint64(len(src)), //nolint:gosec // the kernel takes addresses
	}
	err := u.ioctl(uffdioCopy, unsafe.Pointer(&arg)) //nolint:gosec // the kernel takes addresses
	return max(0, int(int64(arg.copied))), err
}

// zero is copy for zeros. They cost no memory until they are written to.
func (u uffd) zero(addr, length uint64) (int, error) {
	arg := struct{ start, length, mode, zeroed uint64 }{start: addr, length: length}
	err := u.ioctl(uffdioZeropage, unsafe.Pointer(&arg)) //nolint:gosec // the kernel takes addresses
	return max(0, int(int64(arg.zeroed))), err
}

// wake lets threads that wait for a page look again.
func (u uffd) wake(addr uint64) error {
	arg := struct{ start, length uint64 }{addr, pageSize}
	return u.ioctl(uffdioWake, unsafe.Pointer(&arg)) //nolint:gosec // the kernel takes addresses
}

// alive reports whether the process is still there. No other call that answers this leaves all memory alone: none of it is
// registered for write protection, so that there is nothing to lift.
func (u uffd) alive() bool {
	arg := struct{ start, length, mode uint64 }{start: 1 << 30, length: pageSize}
	return !errors.Is(u.ioctl(uffdioProtect, unsafe.Pointer(&arg)), unix.ESRCH) //nolint:gosec // the kernel takes addresses
}

func (u uffd) ioctl(request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(u), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}
