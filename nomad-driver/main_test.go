package main

import (
	"os"
	"testing"

	"github.com/hashicorp/nomad/plugins/base"

	"github.com/criu-docker/criu-docker/nomad-driver/logs"
)

// TestMain lets the test binary be what the tests' processes start: the log forwarder, which the driver starts from its
// own executable, and the plugin itself, which an agent starts from its plugin directory.
func TestMain(m *testing.M) {
	if logs.IsForwarder(os.Args) || os.Getenv(base.Handshake.MagicCookieKey) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}
