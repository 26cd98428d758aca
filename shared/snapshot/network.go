package snapshot

import (
	"net/netip"
	"slices"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// NetworkFirst reports whether a clone needs its network before it can be restored: for a socket that is bound to an address
// or a device, or a connection that goes on. Starts and the build's profile both go by it.
func (c Config) NetworkFirst() bool {
	if c.Checkpoint.TCP == criu.TCPEstablished || len(c.BoundSockets()) > 0 {
		return true
	}
	return slices.ContainsFunc(c.Sockets, func(s criu.Socket) bool { return s.Protocol == "packet" || s.Device != "" })
}

// BoundSockets returns the sockets that come up in a clone with an address of the donor's own. A clone that does not have the
// address must not be restored: for IPv6, CRIU binds to addresses that are not there.
func (c Config) BoundSockets() []criu.Socket {
	var bound []criu.Socket
	for _, s := range c.Sockets {
		if c.Checkpoint.TCP != criu.TCPEstablished && s.Connection() {
			continue // it is closed in the clone, and bound to nothing
		}
		if addr, ok := s.SourceAddr(); ok && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast() && addr != broadcast {
			bound = append(bound, s)
		}
	}
	return bound
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
