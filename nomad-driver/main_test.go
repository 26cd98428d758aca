package main

import (
	"os"
	"testing"

	"github.com/criu-docker/criu-docker/nomad-driver/logs"
)

// TestMain lets the test binary be the log forwarder that the driver starts from its own executable.
func TestMain(m *testing.M) {
	if logs.IsForwarder(os.Args) {
		os.Exit(logs.Main())
	}
	os.Exit(m.Run())
}
