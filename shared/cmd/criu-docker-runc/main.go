// Command criu-docker-runc is the OCI runtime that dockerd knows as "criu-docker". It is a binary of its own, apart from
// criu-docker, because what a Go program links in costs time at each of its starts, and every start of a clone runs it
// several times.
package main

import (
	"os"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

func main() { os.Exit(ociruntime.Main(os.Args)) }
