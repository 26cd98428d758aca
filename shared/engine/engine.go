package engine

import (
	"context"

	"github.com/docker/docker/client"
)

// Engine is a connection to a Docker Engine on this machine.
type Engine struct {
	Client *client.Client
}

// Connect opens a connection to the engine at host ("" takes DOCKER_HOST or the default socket) and checks that it answers.
func Connect(ctx context.Context, host string) (*Engine, error) { panic("not yet") }

// Close ends the connection.
func (e *Engine) Close() error { return e.Client.Close() }
