package snapshot_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

func TestWhatNeedsTheNetwork(t *testing.T) {
	for name, test := range map[string]struct {
		socket       criu.Socket
		first, bound bool
	}{
		"listens everywhere":    {criu.Socket{Protocol: "tcp", State: "LISTEN", Source: "0.0.0.0:80"}, false, false},
		"listens on lo":         {criu.Socket{Protocol: "tcp", State: "LISTEN", Source: "[::1]:80"}, false, false},
		"mapped lo":             {criu.Socket{Protocol: "udp", Source: "[::ffff:127.0.0.1]:80"}, false, false},
		"listens on an address": {criu.Socket{Protocol: "tcp", State: "LISTEN", Source: "172.17.0.2:80"}, true, true},
		"connection":            {criu.Socket{Protocol: "tcp", State: "ESTABLISHED", Source: "172.17.0.2:4711", Dest: "172.17.0.1:80"}, false, false},
		"bound and closed":      {criu.Socket{Protocol: "tcp", State: "CLOSE", Source: "172.17.0.2:80"}, true, true},
		"UDP client":            {criu.Socket{Protocol: "udp", State: "ESTABLISHED", Source: "172.17.0.2:4711", Dest: "172.17.0.1:53"}, true, true},
		"UDP client, mapped":    {criu.Socket{Protocol: "udp", Source: "[::ffff:172.17.0.2]:4711"}, true, true},
		"UDP client, IPv6":      {criu.Socket{Protocol: "udp", Source: "[fd00:77::2]:4711"}, true, true},
		"link-local":            {criu.Socket{Protocol: "udp", Source: "[fe80::2%eth0]:4711"}, true, true},
		"multicast group":       {criu.Socket{Protocol: "udp", Source: "224.0.0.251:5353"}, false, false},
		"not bound":             {criu.Socket{Protocol: "udp"}, false, false},
		"device":                {criu.Socket{Protocol: "tcp", State: "LISTEN", Source: "0.0.0.0:80", Device: "eth0"}, true, false},
		"packet":                {criu.Socket{Protocol: "packet"}, true, false},
		"unix":                  {criu.Socket{Protocol: "unix", Source: "1.2.3.4:5"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := snapshot.Config{Checkpoint: criu.DefaultOptions(), Sockets: []criu.Socket{test.socket}}
			require.Equal(t, test.first, cfg.NetworkFirst())
			require.Equal(t, test.bound, len(cfg.BoundSockets()) == 1)
		})
	}
}

func TestConnectionsThatGoOnNeedTheDonorsAddress(t *testing.T) {
	cfg := snapshot.Config{
		Checkpoint: criu.Options{TCP: criu.TCPEstablished},
		Sockets:    []criu.Socket{{Protocol: "tcp", State: "ESTABLISHED", Source: "172.17.0.2:4711", Dest: "172.17.0.1:80"}},
	}
	require.True(t, cfg.NetworkFirst())
	require.Equal(t, cfg.Sockets, cfg.BoundSockets())
	cfg.Sockets = nil
	require.True(t, cfg.NetworkFirst())
}
