package e2e

import (
	"io"
	"net"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// The device comes up with the engine's network, which a restore must therefore wait for.
func TestSocketOfADevice(t *testing.T) {
	l := newLab(t)
	spec := func() engine.Spec {
		return l.ruby(`require "socket"; $stdout.sync = true
s = Socket.new(:INET, :STREAM); s.setsockopt(Socket::SOL_SOCKET, Socket::SO_BINDTODEVICE, "eth0")
s.bind(Addrinfo.tcp("0.0.0.0", 7000)); s.listen(5); puts "up"
loop { c, _ = s.accept; c.puts "hello"; c.close }`)
	}
	built := l.build(spec(), up)
	require.Contains(t, built.Config.Sockets, criu.Socket{PID: 1, Protocol: "tcp", State: "LISTEN", Source: "0.0.0.0:7000", Device: "eth0"})

	r := l.run(spec(), restore.PolicyAlways)
	conn, err := net.Dial("tcp", net.JoinHostPort(l.ip(r.ContainerID), "7000"))
	require.NoError(t, err)
	defer conn.Close()
	said, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(said))
}

// TestSocketsWithTheDonorsAddress: another container may have it by now, so that no other clone may use it.
func TestSocketsWithTheDonorsAddress(t *testing.T) {
	l := newLab(t)
	name := l.network6()
	const donors, other = "100", "200"
	on := func(s engine.Spec, host string) engine.Spec {
		s.Host.NetworkMode = container.NetworkMode(name)
		s.Network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			name: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: subnet4 + host, IPv6Address: subnet6 + host}},
		}}
		return s
	}
	for _, test := range []struct{ name, peer, source string }{
		{"IPv6", subnet6 + "1", subnet6 + donors},
		{"IPv4", "::ffff:" + subnet4 + "1", subnet4 + donors}, // mapped, as it is in programs that speak both
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := func() engine.Spec {
				return l.ruby(`require "socket"; $stdout.sync = true
s = UDPSocket.new(Socket::AF_INET6); s.connect(ARGV[0], 8125); puts "up"; sleep`, test.peer)
			}
			options := build.Options{
				Spec: on(spec(), donors), Ready: up, Checkpoint: criu.DefaultOptions(), Store: l.store, NoProfile: true,
			}
			_, err := build.Snapshot(l.ctx, l.eng, options)
			require.NoError(t, err)

			r := l.run(on(spec(), donors), restore.PolicyAlways)
			require.NoError(t, restore.Remove(l.ctx, l.eng, l.cache, r.ContainerID))
			placeholder := l.run(on(l.spec(tiny, "exec sleep 1000"), donors), restore.PolicyNever)

			_, err = l.tryRun(on(spec(), other), restore.PolicyAlways)
			require.ErrorContains(t, err, "process 1 has a UDP socket that is connected to ")
			require.ErrorContains(t, err, "from the donor's own IP address "+test.source+", which the container does not have")
			cold := l.run(on(spec(), other), restore.PolicyIfPresent)
			require.Equal(t, restore.Cold, cold.Start)
			require.Contains(t, cold.Reason, test.source)
			for _, id := range []string{placeholder.ContainerID, cold.ContainerID} {
				require.NoError(t, restore.Remove(l.ctx, l.eng, l.cache, id))
			}
		})
	}
}

// Addresses of network6, but for the last number.
const subnet4, subnet6 = "10.213.87.", "fd00:77::"

// network6 makes a bridge network with addresses of both kinds, and returns its name.
func (l *lab) network6() string {
	l.Helper()
	name, both := "e2e-"+l.Name(), true
	created, err := l.eng.Client.NetworkCreate(l.ctx, name, network.CreateOptions{
		Driver: "bridge", EnableIPv6: &both,
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet4 + "0/24"}, {Subnet: subnet6 + "/64"}}},
	})
	require.NoError(l, err)
	l.Cleanup(func() {
		l.removeContainers()
		require.NoError(l, l.eng.Client.NetworkRemove(l.ctx, created.ID))
	})
	return name
}
