package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// service is a daemon that a node runs and restarts when it dies.
type service struct {
	Name string
	Argv []string
	Env  []string
	// Probe returns nil as soon as the service can be used.
	Probe func(context.Context) error
}

func services(spec nodeSpec) []service {
	return []service{{
		Name:  "dockerd",
		Argv:  []string{"dockerd"},
		Probe: httpProbe("unix", "/run/docker.sock", "http://docker/_ping"),
	}}
}

// daemonConfig is dockerd's daemon.json: what criu-docker needs, on top of Debian's defaults.
func daemonConfig(spec nodeSpec) map[string]any {
	return map[string]any{
		"experimental":     true, // the checkpoint API
		"storage-driver":   "overlay2",
		"exec-opts":        []string{"native.cgroupdriver=cgroupfs"}, // there is no systemd in a node
		"cgroup-parent":    spec.Cgroup,
		"shutdown-timeout": 5,
		"runtimes":         map[string]any{"criu-docker": map[string]any{"path": "/usr/local/bin/criu-docker-runc"}},
	}
}

// httpProbe asks a server that listens on a unix socket or TCP address for a page.
func httpProbe(network, address, url string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, resp.Status)
		}
		return nil
	}
}
