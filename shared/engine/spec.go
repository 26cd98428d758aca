// Package engine talks to the Docker Engine: images, containers, checkpoints and their streams.
package engine

import (
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
)

// RuntimeName is the name under which criu-docker-runc is registered in dockerd.
const RuntimeName = "criu-docker"

// Spec is a container as its user asked for it, in the engine's own terms; donors, clones and cold boots are all
// created from one. Its Config.Image is set.
type Spec struct {
	Name    string // "" lets the engine choose
	Config  *container.Config
	Host    *container.HostConfig
	Network *network.NetworkingConfig
	// OnWarning, if set, is told of each warning that the engine has about the container when it creates it.
	OnWarning func(warning string)
}
