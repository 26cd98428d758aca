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

// Addresses returns the addresses of a process's network, without those of its loopback device.
func Addresses(pid int) ([]netip.Addr, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("network of process %d: %w", pid, err)
	}
	defer ns.Close()
	list, err := addressesIn(ns)
	return withoutLoopback(list), err
}

func withoutLoopback(list []netlink.Addr) []netip.Addr {
	var others []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !addr.IsLoopback() {
			others = append(others, addr.Unmap())
		}
	}
	return others
}

func addressesIn(ns netns.NsHandle) ([]netlink.Addr, error) {
	links, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	defer links.Close()
	list, err := links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	return list, nil
}

// move is how sockets get from the donor's addresses to the clone's.
type move struct {
	from  []netip.Addr // the donor's own
	to    []netip.Addr // the clone's own
	known bool         // they are; the engine wires a network of the clone's own only when CRIU has read what it restores
}

// newMove returns how the sockets of a clone are moved: not at all, if none is bound to an address of the donor's.
func newMove(b *bundle, req Request) (move, error) {
	if len(req.Bound) == 0 || len(req.Addresses) == 0 {
		return move{}, nil
	}
	m := move{from: req.Addresses}
	path, own := b.network()
	if !own || path == "" {
		return m, nil
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return m, fmt.Errorf("network of the clone: %w", err)
	}
	defer ns.Close()
	list, err := addressesIn(ns)
	if err != nil {
		return m, fmt.Errorf("the clone's %w", err)
	}
	m.to = withoutLoopback(list)
	m.known = len(m.to) > 0
	return m, nil
}

// place returns the addresses of a socket's two ends in the clone; what is not valid stays as it was.
//
// One that is connected to another host is bound to none (the unspecified address): the kernel chooses one when CRIU connects it, as
// it did for the donor. Another one gets the clone's address, if that is known and the only one of its family. If it is not known, the
// socket is bound to none as well, where the donor had no other address that this would let it be reached at; checkAddresses
// sees that the clone hasn't either. An address of a single link stays as it was.
func (m move) place(s criu.Socket) (source, dest netip.Addr) {
	addr, ok := s.SourceAddr()
	if !ok || s.Connection() || addr.IsLinkLocalUnicast() || !slices.Contains(m.from, addr) || slices.Contains(m.to, addr) {
		return source, dest
	}
	peer, connected := s.DestAddr()
	itself := connected && slices.Contains(m.from, peer)
	own, only := onlyOne(m.to, addr)
	_, alone := onlyOne(m.from, addr)
	switch {
	case connected && !itself && s.Protocol == "udp":
		return netip.IPv6Unspecified(), dest
	case m.known && only && itself:
		return own, own
	case m.known && only:
		return own, dest
	case !m.known && alone && !itself:
		return netip.IPv6Unspecified(), dest
	}
	return source, dest
}

// onlyOne returns the only address of the family of another one that is not of a single link; false if there are none or several.
func onlyOne(list []netip.Addr, like netip.Addr) (only netip.Addr, ok bool) {
	for _, a := range list {
		switch {
		case a.Is4() != like.Is4(), a.IsLinkLocalUnicast():
		case only.IsValid():
			return netip.Addr{}, false
		default:
			only = a
		}
	}
	return only, only.IsValid()
}

// moved is what has to be true of the clone's addresses for its sockets.
type moved struct {
	bound   []criu.Socket // to addresses that the clone must have
	widened []criu.Socket // to any, instead of the donor's: the clone must have a single one
}

func (m move) moved(bound []criu.Socket) moved {
	var list moved
	for _, s := range bound {
		_, connected := s.DestAddr()
		source, dest := m.place(s)
		switch {
		case !source.IsValid() || !source.IsUnspecified():
			s.Source, s.Dest = replaceAddr(s.Source, source), replaceAddr(s.Dest, dest)
			list.bound = append(list.bound, s)
		case !connected:
			list.widened = append(list.widened, s)
		}
	}
	return list
}

// replaceAddr returns ADDRESS:PORT with another address, unless that is not valid.
func replaceAddr(text string, addr netip.Addr) string {
	if old, err := netip.ParseAddrPort(text); err == nil && addr.IsValid() {
		return netip.AddrPortFrom(addr, old.Port()).String()
	}
	return text
}

// checkAddresses sees that the clone, whose network the engine has wired, has the addresses that its sockets are bound to.
// CRIU itself finds that out for IPv4 only: it binds an IPv6 socket to whatever address, and the clone would send from one
// that another container may have by now.
func (s *supervision) checkAddresses(sockets moved) error {
	if len(sockets.bound)+len(sockets.widened) == 0 {
		return nil
	}
	ns, err := netns.GetFromPid(s.pid)
	if err != nil {
		return fmt.Errorf("network of the clone: %w", err)
	}
	defer ns.Close()
	has, err := addressesIn(ns)
	if err != nil {
		return fmt.Errorf("the clone's %w", err)
	}
	for _, w := range sockets.widened {
		addr, _ := w.SourceAddr()
		if _, alone := onlyOne(withoutLoopback(has), addr); !alone {
			return fmt.Errorf("process %d has a %s socket that is bound to the donor's only address, %s, and the container has several or none: "+
				"let the app bind it to 0.0.0.0 or ::, or start the container in one network", w.PID, strings.ToUpper(w.Protocol), addr)
		}
	}
	return fitAddresses(sockets.bound, has)
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
