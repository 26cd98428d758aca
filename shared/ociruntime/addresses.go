package ociruntime

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// checkAddresses sees that the clone, whose network the engine has wired, has the addresses that its sockets are bound to.
// CRIU itself finds that out for IPv4 only: it binds an IPv6 socket to whatever address, and the clone would send from one
// that another container may have by now.
func (s *supervision) checkAddresses() error {
	if len(s.request.Bound) == 0 {
		return nil
	}
	links, err := netlinkOf(s.pid)
	if err != nil {
		return fmt.Errorf("addresses of the clone: %w", err)
	}
	defer links.Close()
	has, err := links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of the clone: %w", err)
	}
	return fitAddresses(s.request.Bound, has)
}

// netlinkOf asks for the network of a process.
func netlinkOf(pid int) (*netlink.Handle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
}

// fitAddresses returns an error that names the first socket that is bound to none of the addresses.
func fitAddresses(bound []criu.Socket, has []netlink.Addr) error {
	own := map[netip.Addr]bool{}
	for _, a := range has {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			own[addr.Unmap()] = true
		}
		if ip := a.IP.To4(); ip != nil { // sockets may be bound to the broadcast address of a network
			last := slices.Clone(ip)
			for i, b := range a.Mask {
				last[i] |= ^b
			}
			own[netip.AddrFrom4([4]byte(last))] = true
		}
	}
	for _, s := range bound {
		addr, ok := s.SourceAddr()
		if ok && own[addr] {
			continue
		}
		role := "bound to"
		remedy := "let the app bind it to 0.0.0.0 or ::"
		if s.Dest != "" {
			role = "connected to " + s.Dest + " from"
			remedy = "let the app connect it after it was frozen"
		}
		return fmt.Errorf("process %d has a %s socket that is %s the donor's own IP address %s, which the container does not have: %s, or start the container with that address",
			s.PID, strings.ToUpper(s.Protocol), role, addr, remedy)
	}
	return nil
}
