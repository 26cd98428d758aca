package ociruntime

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/criu-docker/criu-docker/shared/criu"
)

func TestFitAddresses(t *testing.T) {
	var has []netlink.Addr
	for _, cidr := range []string{"127.0.0.1/8", "172.17.0.3/16", "fd00:77::3/64", "fe80::3/64"} {
		a, err := netlink.ParseAddr(cidr)
		require.NoError(t, err)
		has = append(has, *a)
	}
	for source, fits := range map[string]bool{
		"172.17.0.3:80": true, "[::ffff:172.17.0.3]:80": true, "[fd00:77::3]:80": true, "[fe80::3%eth0]:80": true,
		"172.17.255.255:80": true, // the network's broadcast address
		"172.17.0.2:80":     false, "[::ffff:172.17.0.2]:80": false, "[fd00:77::2]:80": false, "[fe80::2]:80": false,
	} {
		err := fitAddresses([]criu.Socket{{PID: 7, Protocol: "tcp", State: "LISTEN", Source: source}}, has)
		if fits {
			require.NoError(t, err, source)
			continue
		}
		require.ErrorContains(t, err, "process 7 has a TCP socket that is bound to the donor's own IP address ", source)
		require.ErrorContains(t, err, "let the app bind it to 0.0.0.0 or ::")
	}
	require.EqualError(t, fitAddresses([]criu.Socket{{PID: 1, Protocol: "udp", Source: "172.17.0.2:4711", Dest: "172.17.0.1:8125"}}, has),
		"process 1 has a UDP socket that is connected to 172.17.0.1:8125 from the donor's own IP address 172.17.0.2, "+
			"which the container does not have: let the app connect it after it was frozen, or start the container with that address")
}

func TestPlace(t *testing.T) {
	addrs := func(list ...string) (a []netip.Addr) {
		for _, text := range list {
			a = append(a, netip.MustParseAddr(text))
		}
		return a
	}
	udp := func(source, dest string) criu.Socket { return criu.Socket{Protocol: "udp", Source: source, Dest: dest} }
	listen := func(source string) criu.Socket { return criu.Socket{Protocol: "tcp", State: "LISTEN", Source: source} }
	donors := addrs("172.17.0.2", "fd00::2", "fe80::2")
	const unspecified = "::"
	for name, c := range map[string]struct {
		move         move
		socket       criu.Socket
		source, dest string // "" leaves it
	}{
		"client":                       {move{from: donors}, udp("172.17.0.2:4711", "10.0.0.1:53"), unspecified, ""},
		"client of IPv6":               {move{from: donors}, udp("[fd00::2]:4711", "[fd00::1]:53"), unspecified, ""},
		"mapped client":                {move{from: donors}, udp("[::ffff:172.17.0.2]:4711", "[::ffff:10.0.0.1]:53"), unspecified, ""},
		"client, several":              {move{from: addrs("172.17.0.2", "10.0.0.2")}, udp("172.17.0.2:4711", "10.0.0.1:53"), unspecified, ""},
		"to itself":                    {move{from: donors}, udp("172.17.0.2:4711", "172.17.0.2:53"), "", ""},
		"to itself, known":             {move{donors, addrs("172.17.0.3"), true}, udp("172.17.0.2:4711", "172.17.0.2:53"), "172.17.0.3", "172.17.0.3"},
		"listener":                     {move{from: donors}, listen("172.17.0.2:80"), unspecified, ""},
		"listener, known":              {move{donors, addrs("172.17.0.3", "fd00::3"), true}, listen("172.17.0.2:80"), "172.17.0.3", ""},
		"listener of IPv6, known":      {move{donors, addrs("172.17.0.3", "fd00::3", "fe80::3"), true}, listen("[fd00::2]:80"), "fd00::3", ""},
		"listener on one of several":   {move{from: addrs("172.17.0.2", "10.0.0.2")}, listen("172.17.0.2:80"), "", ""},
		"listener where there are two": {move{donors, addrs("172.17.0.3", "10.0.0.3"), true}, listen("172.17.0.2:80"), "", ""},
		"listener where there is none": {move{donors, addrs("fd00::3"), true}, listen("172.17.0.2:80"), "", ""},
		"of a single link":             {move{from: donors}, listen("[fe80::2]:80"), "", ""},
		"address that is there":        {move{donors, addrs("172.17.0.2"), true}, listen("172.17.0.2:80"), "", ""},
		"broadcast":                    {move{from: donors}, udp("172.17.255.255:67", ""), "", ""},
		"any":                          {move{from: donors}, listen("0.0.0.0:80"), "", ""},
		"connection":                   {move{from: donors}, criu.Socket{Protocol: "tcp", State: "ESTABLISHED", Source: "172.17.0.2:80", Dest: "10.0.0.1:99"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			source, dest := c.move.place(c.socket)
			text := func(a netip.Addr) string {
				if !a.IsValid() {
					return ""
				}
				return a.String()
			}
			require.Equal(t, c.source, text(source))
			require.Equal(t, c.dest, text(dest))
		})
	}
}
