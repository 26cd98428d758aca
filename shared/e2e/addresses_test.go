package e2e

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/stretchr/testify/require"

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

// bindings has sockets of all kinds that know the donor's addresses: connected ones, bound ones, listeners, and with a fifth argument one
// that is connected to the donor itself. It uses all of them for each connection, and says what they are bound to.
const bindings = `require "socket"; $stdout.sync = true
own4, own6, peer4, peer6, itself = ARGV
clients = [[Socket::AF_INET, peer4], [Socket::AF_INET6, peer6], [Socket::AF_INET6, "::ffff:" + peer4]].map { |family, peer|
  s = UDPSocket.new(family); s.connect(peer, 8125); s }
bound = UDPSocket.new; bound.bind(own4, 5353)
server, six = TCPServer.new(own4, 7000), TCPServer.new(own6, 7000)
all = clients + [bound, server, six]
if itself then itself = UDPSocket.new; itself.connect(own4, 5353); all << itself end
puts "up"
loop { c = server.accept
  clients.each { |s| s.send("hello", 0) }
  if itself then itself.send("hello", 0); bound.recvfrom(100) end
  c.puts(all.map { |s| s.local_address.ip_address }.join(" "))
  c.close }`

// TestSocketsGetTheClonesAddress: the donor's is another container's by now, and no clone may use it.
func TestSocketsGetTheClonesAddress(t *testing.T) {
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
	spec := func(more ...string) engine.Spec {
		return l.ruby(bindings, append([]string{subnet4 + donors, subnet6 + donors, subnet4 + "1", subnet6 + "1"}, more...)...)
	}
	l.build(on(spec(), donors), up)
	l.build(on(spec("itself"), donors), up)
	l.run(on(l.spec(tiny, "exec sleep 1000"), donors), restore.PolicyNever)

	from := map[string]chan string{}
	for _, address := range []string{subnet4 + "1", subnet6 + "1"} {
		from[address] = sources(t, net.JoinHostPort(address, "8125"))
	}
	own4, own6 := subnet4+other, subnet6+other
	works := func(bound ...string) {
		t.Helper()
		conn, err := net.Dial("tcp", net.JoinHostPort(own4, "7000"))
		require.NoError(t, err)
		defer conn.Close()
		said, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, strings.Join(append([]string{own4, own6, "::ffff:" + own4}, bound...), " ")+"\n", string(said))
		six, err := net.Dial("tcp", net.JoinHostPort(own6, "7000"))
		require.NoError(t, err)
		require.NoError(t, six.Close())
		require.Equal(t, []string{own4, own4, own6}, []string{<-from[subnet4+"1"], <-from[subnet4+"1"], <-from[subnet6+"1"]})
	}
	for _, l.memory = range []restore.Memory{restore.MemoryLazy, restore.MemoryEager} {
		r := l.run(on(spec(), other), restore.PolicyAlways)
		works("0.0.0.0", "0.0.0.0", "::")
		require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, r.ContainerID, container.StopOptions{Timeout: new(int)}))
		report, err := runDir.ReadReport(r.ContainerID)
		require.NoError(t, err)
		require.Empty(t, report.Cold)
		works("0.0.0.0", "0.0.0.0", "::")
		require.NoError(t, restore.Remove(l.ctx, l.eng, l.cache, r.ContainerID))
	}

	// What would send to the donor's address, and what would be reached at more than one, is not restored.
	_, err := l.tryRun(on(spec("itself"), other), restore.PolicyAlways)
	require.ErrorContains(t, err, "process 1 has a UDP socket that is connected to "+subnet4+donors+":5353 from the donor's own IP address")
	two := on(spec(), other)
	two.Network.EndpointsConfig["bridge"] = &network.EndpointSettings{}
	_, err = l.tryRun(two, restore.PolicyAlways)
	require.ErrorContains(t, err, "process 1 has a UDP socket that is bound to the donor's only address, "+subnet4+donors+", and the container has several or none")

	// In the network of another container, as in that of a group of Nomad tasks, the address is known.
	joined := l.run(on(l.spec(tiny, "exec sleep 1000"), other), restore.PolicyNever)
	within := spec("itself")
	within.Host.NetworkMode = container.NetworkMode("container:" + joined.ContainerID)
	l.run(within, restore.PolicyAlways)
	works(own4, own4, own6, own4)
}

// sources returns where the datagrams come from that an address gets.
func sources(t *testing.T, address string) chan string {
	t.Helper()
	peer, err := net.ListenPacket("udp", address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, peer.Close()) })
	from := make(chan string, 100)
	go func() {
		for {
			_, source, err := peer.ReadFrom(make([]byte, 100))
			if err != nil {
				return
			}
			from <- source.(*net.UDPAddr).IP.String()
		}
	}()
	return from
}

// Addresses of network6, but for the last number.
const subnet4, subnet6 = "10.213.87.", "fd00:77::"

// network6 makes a bridge network with addresses of both kinds, and returns its name.
func (l *lab) network6() string {
	l.Helper()
	both := true
	return l.createNetwork(network.CreateOptions{
		EnableIPv6: &both, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet4 + "0/24"}, {Subnet: subnet6 + "/64"}}},
	})
}
