package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// ErrUnreachable means that no Docker Engine answers at the configured address.
var ErrUnreachable = errors.New("docker engine unreachable")

// connectTimeout bounds the first exchange with the engine; a dockerd that is up answers a ping within milliseconds.
const connectTimeout = 10 * time.Second

// As the client itself has them by default.
const (
	maxIdle     = 6
	idleTimeout = 30 * time.Second
)

// Engine is a connection to a Docker Engine on this machine. It is safe for concurrent use.
type Engine struct {
	Client *client.Client
}

// Connect opens a connection to the engine at host ("" takes DOCKER_HOST or the default socket) and checks that it
// answers. It returns ErrUnreachable when it does not.
func Connect(ctx context.Context, host string) (*Engine, error) {
	return connect(ctx, host, callTimeout)
}

func connect(ctx context.Context, host string, callTimeout time.Duration) (*Engine, error) {
	h := &http.Client{
		Transport:     &http.Transport{MaxIdleConns: maxIdle, IdleConnTimeout: idleTimeout},
		CheckRedirect: client.CheckRedirect,
	}
	opts := []client.Opt{client.WithHTTPClient(h), client.WithHost(client.DefaultDockerHost), client.FromEnv, client.WithAPIVersionNegotiation()}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	c, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w", host, err)
	}
	h.Transport = bounded{h.Transport, callTimeout} // the client knows no other way that leaves its own transport to it
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if _, err := c.Ping(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("%w at %s: %w; is dockerd running, and may this user open its socket?", ErrUnreachable, c.DaemonHost(), err)
	}
	return &Engine{Client: c}, nil
}

// Close ends the connection.
func (e *Engine) Close() error { return e.Client.Close() }

// IsNotFound reports whether err says that a container or image does not exist.
func IsNotFound(err error) bool { return errdefs.IsNotFound(err) }
