// Command nomad-driver-criu-docker is a Nomad task driver: it runs Docker containers, and starts them from snapshots
// where fitting ones exist. docs/nomad.md is its manual.
package main

import (
	"context"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins"

	"github.com/criu-docker/criu-docker/nomad-driver/logs"
)

func main() {
	if logs.IsForwarder(os.Args) {
		os.Exit(logs.Main())
	}
	plugins.ServeCtx(func(ctx context.Context, logger hclog.Logger) any {
		return NewDriver(ctx, logger)
	})
}
