package e2e

import (
	"errors"
	"net"
	"strconv"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

func TestCloneOnEveryKindOfNetwork(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, ""), tinyReady)
	other := l.run(l.spec(tiny, "exec sleep 1000"), restore.PolicyNever)

	for _, mode := range []string{"bridge", "none", "container:" + other.ContainerID} {
		t.Run(mode[:4], func(t *testing.T) {
			spec := l.spec(tiny, "")
			spec.Host.NetworkMode = container.NetworkMode(mode)
			r := l.run(spec, restore.PolicyAlways)
			require.Contains(t, l.sh(r.ContainerID, "wget -qO- http://127.0.0.1/"), "It works")
		})
	}
	require.Contains(t, l.sh(other.ContainerID, "wget -qO- http://127.0.0.1/"), "It works", "the clone is in the other container's network namespace")
}

// A donor is asked, warmed up and told where it is reached: in the network namespace of another container.
func TestDonorOnTheNetworkOfAContainer(t *testing.T) {
	l := newLab(t)
	other := l.run(l.spec(tiny, "exec sleep 1000"), restore.PolicyNever)
	spec := func() engine.Spec {
		s := l.spec(tiny, "")
		s.Host.NetworkMode = container.NetworkMode("container:" + other.ContainerID)
		return s
	}
	l.build(spec(), tinyReady)
	l.run(spec(), restore.PolicyAlways)
	require.Contains(t, l.sh(other.ContainerID, "wget -qO- http://127.0.0.1/"), "It works")
}

func TestCloneOnTheHostsNetwork(t *testing.T) {
	l := newLab(t)
	const port = "18099" // nobody else's in a node
	spec := func() engine.Spec {
		s := l.spec(tiny, "exec httpd -f -p "+port+" -h /www")
		s.Host.NetworkMode = network.NetworkHost
		return s
	}
	ready := tinyReady
	ready.Port = 18099
	l.build(spec(), ready)
	l.run(spec(), restore.PolicyAlways)
	require.Contains(t, l.mustGet("http://127.0.0.1:"+port+"/"), "It works")
}

func TestPublishedPort(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, ""), tinyReady)
	seen := map[string]bool{}
	for range 2 {
		spec := l.spec(tiny, "")
		spec.Config.ExposedPorts = nat.PortSet{"80/tcp": {}}
		spec.Host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1"}}}
		r := l.run(spec, restore.PolicyAlways)
		published := l.inspect(r.ContainerID).NetworkSettings.Ports["80/tcp"]
		require.Len(t, published, 1)
		require.Contains(t, l.mustGet("http://127.0.0.1:"+published[0].HostPort+"/"), "It works")
		seen[published[0].HostPort] = true
	}
	require.Len(t, seen, 2, "each clone has its own port")
}

// TestClientsThatConnectEarly: the engine publishes a port before the clone runs, and has the kernel forget all connections
// of its address in the end. A client that connects meanwhile is told that nobody listens, and none waits in vain.
func TestClientsThatConnectEarly(t *testing.T) {
	l := newLab(t)
	l.memory = restore.MemoryLazy
	l.build(l.ballast(), ballastReady)
	bridge, err := l.eng.Client.NetworkInspect(l.ctx, "bridge", network.InspectOptions{})
	require.NoError(t, err)
	const first, clones = 18100, 8            // ports; nobody else's in a node
	group, ctx := errgroup.WithContext(l.ctx) // a start that fails ends the waiting for its answer
	for i := range clones {
		port := strconv.Itoa(first + i)
		spec := l.ballast()
		spec.Config.ExposedPorts = nat.PortSet{"80/tcp": {}}
		spec.Host.PortBindings = nat.PortMap{"80/tcp": {{HostPort: port}}}
		group.Go(func() error {
			_, err := l.tryRun(spec, restore.PolicyAlways)
			return err
		})
		group.Go(func() error {
			var timeout net.Error
			for {
				_, err := l.get("http://" + net.JoinHostPort(bridge.IPAM.Config[0].Gateway, port) + "/") // by the address that is translated
				if err == nil || errors.As(err, &timeout) && timeout.Timeout() || ctx.Err() != nil {
					return err
				}
			}
		})
	}
	require.NoError(t, group.Wait())
}

func TestCloneOnAUserDefinedNetwork(t *testing.T) {
	l := newLab(t)
	name, subnet := l.network()
	l.build(l.spec(tiny, ""), tinyReady) // on the default bridge: which network a clone joins is its own affair

	on := func(ip string, aliases ...string) engine.Spec {
		s := l.spec(tiny, "")
		s.Host.NetworkMode = container.NetworkMode(name)
		s.Network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			name: {Aliases: aliases, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: subnet + ip}},
		}}
		return s
	}
	web, api := l.run(on("100", "web"), restore.PolicyAlways), l.run(on("101", "api"), restore.PolicyAlways)
	require.Equal(t, subnet+"100", l.inspect(web.ContainerID).NetworkSettings.Networks[name].IPAddress)
	require.Contains(t, l.sh(web.ContainerID, "ip -4 addr show dev eth0"), subnet+"100/24")
	require.Contains(t, l.sh(web.ContainerID, "wget -qO- http://api/"), "It works")
	require.Contains(t, l.sh(api.ContainerID, "wget -qO- http://web/"), "It works")
}

// network makes a bridge network and returns its name and the first three bytes of its addresses.
func (l *lab) network() (name, subnet string) {
	l.Helper()
	const first = "10.213.86."
	return l.createNetwork(network.CreateOptions{IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: first + "0/24"}}}}), first
}

// networkLabel marks the networks of this package. Their addresses are theirs alone: packages are tested at the same time.
const networkLabel = "e2e-network"

// createNetwork makes a bridge network and returns its name. What a run that was killed has left might have its addresses.
func (l *lab) createNetwork(options network.CreateOptions) (name string) {
	l.Helper()
	of := filters.NewArgs(filters.Arg("label", networkLabel))
	left, err := l.eng.Client.NetworkList(l.ctx, network.ListOptions{Filters: of})
	require.NoError(l, err)
	for _, n := range left {
		within, err := l.eng.Client.ContainerList(l.ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("network", n.ID))})
		require.NoError(l, err)
		for _, c := range within {
			require.NoError(l, l.eng.Remove(l.ctx, c.ID))
		}
		require.NoError(l, l.eng.Client.NetworkRemove(l.ctx, n.ID))
	}

	name = "e2e-" + l.Name()
	options.Driver, options.Labels = "bridge", map[string]string{networkLabel: ""}
	created, err := l.eng.Client.NetworkCreate(l.ctx, name, options)
	require.NoError(l, err)
	l.Cleanup(func() {
		l.removeContainers()
		require.NoError(l, l.eng.Client.NetworkRemove(l.ctx, created.ID))
	})
	return name
}
