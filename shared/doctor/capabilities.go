package doctor

import (
	"fmt"
	"net"
	"strings"

	"github.com/docker/docker/client"
	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// What runc and CRIU need; they have what the engine has.
var (
	neededCapabilities = []capability.Cap{
		capability.CAP_CHECKPOINT_RESTORE, capability.CAP_SYS_ADMIN, capability.CAP_SYS_PTRACE, capability.CAP_SYS_CHROOT,
		capability.CAP_NET_ADMIN, capability.CAP_SETUID, capability.CAP_SETGID, capability.CAP_SETPCAP, capability.CAP_CHOWN,
		capability.CAP_DAC_OVERRIDE, capability.CAP_DAC_READ_SEARCH, capability.CAP_FOWNER, capability.CAP_KILL, capability.CAP_MKNOD,
	}
	// CRIU reads and sets the limits of processes that aren't root's with it.
	usefulCapabilities = []capability.Cap{capability.CAP_SYS_RESOURCE}
)

// engineCapabilities looks at what the engine may do: a dockerd that runs in a container or a virtual machine's sandbox may
// be root and still lack what CRIU needs.
func engineCapabilities(address string) Check {
	c := Check{Name: "engine's capabilities", Want: "all that CRIU needs"}
	const remedy = "start dockerd and containerd with all capabilities (CapabilityBoundingSet= of their systemd units, " +
		"--privileged where they run in a container)"
	pid, err := enginePid(address)
	if err != nil {
		return c.warn(err.Error(), "run this command in the pid namespace of dockerd")
	}
	caps, err := capability.NewPid2(pid)
	if err == nil {
		err = caps.Load()
	}
	if err != nil {
		return c.warn(fmt.Sprintf("process %d: %v", pid, err), "run this command in the pid namespace of dockerd")
	}
	missing := func(list []capability.Cap) (names []string) {
		for _, one := range list {
			if !caps.Get(capability.EFFECTIVE, one) || !caps.Get(capability.BOUNDING, one) {
				names = append(names, "CAP_"+strings.ToUpper(one.String()))
			}
		}
		return names
	}
	return c.judge(missing(neededCapabilities), missing(usefulCapabilities), remedy)
}

func (c Check) judge(needed, useful []string, remedy string) Check {
	switch {
	case len(needed) > 0:
		return c.fail("no "+strings.Join(append(needed, useful...), ", "), remedy)
	case len(useful) > 0:
		return c.warn("no "+strings.Join(useful, ", "), remedy+": without it only containers whose processes all run as root can be frozen")
	}
	return c.ok("all that CRIU needs")
}

// enginePid asks the kernel which process listens at the engine's socket.
func enginePid(address string) (int, error) {
	url, err := client.ParseHostURL(address)
	if err != nil {
		return 0, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: url.Host, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) { peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if perr != nil {
		return 0, perr
	}
	if peer.Pid <= 0 {
		return 0, fmt.Errorf("the process that listens at %s can't be seen from here", address)
	}
	return int(peer.Pid), nil
}
