package build

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// listenerOptions are those of a listening TCP socket that CRIU does not restore.
var listenerOptions = []struct {
	name          string
	level, option int
}{
	{"TCP_SYNCNT", unix.IPPROTO_TCP, unix.TCP_SYNCNT},
	{"TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2},
	{"TCP_DEFER_ACCEPT", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT},
	{"TCP_CONGESTION", unix.IPPROTO_TCP, unix.TCP_CONGESTION},
	{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{"TCP_FASTOPEN", unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
	{"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
	{"TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG},
	{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER},
}

// lostOptions warns of options of the processes' listening sockets that clones will lack: those that are otherwise than in a
// socket that was just made in the same network namespace.
func lostOptions(pids []int) ([]string, error) {
	if len(pids) == 0 {
		return nil, nil
	}
	fresh, err := freshOptions(pids[0])
	if err != nil {
		return nil, err
	}
	var warnings []string
	seen := map[string]bool{}
	for _, pid := range pids {
		links, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
		if err != nil {
			return nil, err
		}
		for _, link := range links {
			socket, err := os.Readlink(link)
			if err != nil || !strings.HasPrefix(socket, "socket:") || seen[socket] {
				continue // closed meanwhile, or of no interest
			}
			seen[socket] = true
			number, err := strconv.Atoi(filepath.Base(link))
			if err != nil {
				return nil, err
			}
			if changed, port := changedOptions(pid, number, fresh); len(changed) > 0 {
				warnings = append(warnings, fmt.Sprintf("clones lack %s of the app's listener on port %d: CRIU restores the kernel's defaults",
					strings.Join(changed, ", "), port))
			}
		}
	}
	return warnings, nil
}

// freshOptions returns the options of a socket that was just made in a process's network namespace.
func freshOptions(pid int) (_ []string, err error) {
	// The thread comes back to its namespace and lives on. Were it to end, the kernel would kill each child that it has started
	// with a parent death signal, as a program that embeds this one may have (Terraform's test framework does).
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("own network namespace: %w", err)
	}
	defer own.Close()
	defer func() {
		if back := netns.Set(own); back != nil {
			err = errors.Join(err, fmt.Errorf("return to the own network namespace: %w", back))
			return // nothing else may run on this thread: it stays locked, and ends with its goroutine
		}
		runtime.UnlockOSThread()
	}()
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	if err := netns.Set(ns); err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readOptions(fd), nil
}

// readOptions returns the values of listenerOptions; "" where the socket has none.
func readOptions(fd int) []string {
	values := make([]string, len(listenerOptions))
	for i, o := range listenerOptions {
		if o.option == unix.TCP_CONGESTION && o.level == unix.IPPROTO_TCP {
			values[i], _ = unix.GetsockoptString(fd, o.level, o.option)
		} else if v, err := unix.GetsockoptInt(fd, o.level, o.option); err == nil {
			values[i] = strconv.Itoa(v)
		}
	}
	return values
}

// changedOptions names the options of a process's descriptor that differ, if it is a listening TCP socket, and its port.
func changedOptions(pid, number int, fresh []string) (changed []string, port int) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, 0 // ended meanwhile
	}
	defer unix.Close(process)
	fd, err := unix.PidfdGetfd(process, number, 0)
	if err != nil {
		return nil, 0
	}
	defer unix.Close(fd)
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return nil, 0
	}
	if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
		return nil, 0
	}
	for i, v := range readOptions(fd) {
		if v != "" && v != fresh[i] {
			changed = append(changed, listenerOptions[i].name)
		}
	}
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		port = a.Port
	case *unix.SockaddrInet6:
		port = a.Port
	}
	return changed, port
}

// lostGroups warns of the multicast groups that a process's network namespace has joined, apart from those that the kernel
// joins by itself.
func lostGroups(pid int) ([]string, error) {
	groups, err := multicastGroups(fmt.Sprintf("/proc/%d/net", pid))
	if err != nil || len(groups) == 0 {
		return nil, err
	}
	return []string{fmt.Sprintf("clones are in none of the multicast groups that the app has joined (%s): CRIU does not restore memberships; "+
		"let the app join after the start", strings.Join(groups, ", "))}, nil
}

// multicastGroups reads igmp and igmp6 in a process's net directory.
func multicastGroups(dir string) ([]string, error) {
	var groups []string
	for _, file := range []string{"igmp", "igmp6"} {
		f, err := os.Open(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if group := groupOf(file, strings.Fields(lines.Text())); group.IsValid() && !isAutomatic(group) {
				groups = append(groups, group.String())
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// groupOf returns the group in a line of igmp (a number in the machine's byte order) or igmp6 (the address's bytes).
func groupOf(file string, fields []string) netip.Addr {
	word := ""
	switch {
	case file == "igmp" && len(fields) >= 4 && len(fields[0]) == 8:
		word = fields[0]
	case file == "igmp6" && len(fields) >= 3:
		word = fields[2]
	}
	b, err := hex.DecodeString(word)
	if err != nil {
		return netip.Addr{}
	}
	if file == "igmp" && len(b) == 4 {
		binary.NativeEndian.PutUint32(b, binary.BigEndian.Uint32(b))
	}
	group, _ := netip.AddrFromSlice(b)
	return group
}

// isAutomatic reports whether the kernel joins a group by itself: all hosts, all nodes, solicited nodes.
func isAutomatic(group netip.Addr) bool {
	if group.Is4() {
		return group == netip.AddrFrom4([4]byte{224, 0, 0, 1})
	}
	solicited := netip.MustParsePrefix("ff02::1:ff00:0/104")
	return group == netip.MustParseAddr("ff02::1") || group == netip.MustParseAddr("ff01::1") || solicited.Contains(group)
}
