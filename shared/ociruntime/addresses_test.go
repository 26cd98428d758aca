package ociruntime

import (
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
