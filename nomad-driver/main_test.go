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
	// Nomad's test harness leaves directories and sockets where temporary files are.
	dir, err := os.MkdirTemp("", "driver-")
	if err == nil {
		err = os.Setenv("TMPDIR", dir)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}
