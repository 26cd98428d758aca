package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"time"
)

// service is a daemon that a node runs and restarts when it dies. It is plain data, so that up can give a running
// node a new or changed service without restarting the node.
type service struct {
	Name  string            `json:"name"`
	Argv  []string          `json:"argv"`
	Env   []string          `json:"env,omitempty"`
	Files map[string]string `json:"files,omitempty"` // written before it starts
	Probe probe             `json:"probe"`
	After []string          `json:"after,omitempty"` // services of the same node that must be ready before it starts
}

// probe is a page that a service serves as soon as it can be used.
type probe struct {
	Network string `json:"network"` // unix or tcp
	Address string `json:"address"`
	URL     string `json:"url"`
	Wants   string `json:"wants,omitempty"` // regular expression that the page must match
}

// services are what runs on a node. The bucket and Nomad's server are on the first node only.
func (n *Node) services(p parts, o upOptions) []service {
	list := []service{n.dockerd(p.dockerd, o)}
	if n.index() == 1 {
		list = append(list, fakeGCS())
	}
	if p.nomad.path != "" && n.index() == 1 {
		list = append(list, n.nomadServer(p.nomad))
	}
	if p.nomad.path != "" {
		list = append(list, n.nomadAgent(p.nomad, list[0].Name, o))
	}
	return list
}

// dockerd is the engine: that of the distribution, or the one in a directory.
func (n *Node) dockerd(dir string, o upOptions) service {
	s := service{
		Name:  "dockerd",
		Argv:  []string{"dockerd"},
		Probe: probe{Network: "unix", Address: "/run/docker.sock", URL: "http://docker/_ping"},
	}
	if o.host.systemd || o.host.vm { // as Debian starts it, and with its user's daemon.json
		s.Name, s.Argv = "docker", nil
		return s
	}
	if dir != "" {
		s.Argv = []string{hostRoot + filepath.Join(dir, "dockerd"), "--userland-proxy-path=" + hostRoot + filepath.Join(dir, "docker-proxy")}
	}
	// What it needs in order to run in a node, where there is no systemd, is on its command line if daemon.json is the user's.
	if o.bare {
		s.Argv = append(s.Argv, "--exec-opt=native.cgroupdriver=cgroupfs", "--cgroup-parent="+n.cgroup(), "--shutdown-timeout=5", "--storage-driver=overlay2")
		return s
	}
	config := map[string]any{
		"experimental":     true, // the checkpoint API
		"exec-opts":        []string{"native.cgroupdriver=cgroupfs"},
		"cgroup-parent":    n.cgroup(),
		"shutdown-timeout": 5,
		"runtimes":         map[string]any{"criu-docker": map[string]any{"path": "/usr/local/bin/criu-docker-runc"}},
	}
	if o.host.live {
		config["live-restore"] = true
	}
	if o.host.store == containerd {
		config["features"] = map[string]bool{"containerd-snapshotter": true}
	} else {
		config["storage-driver"] = overlay2
	}
	daemonJSON, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		panic(err) // maps of strings always encode
	}
	s.Files = map[string]string{"/etc/docker/daemon.json": string(daemonJSON) + "\n"}
	return s
}

// check returns nil when the service serves its page.
func (p probe) check(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, p.Network, p.Address)
		},
	}}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return fmt.Errorf("probe %s: %w", p.URL, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("probe %s: %w", p.URL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("probe %s: %s", p.URL, resp.Status)
	}
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("probe %s: %w", p.URL, err)
	}
	wants, err := regexp.Compile(p.Wants)
	if err != nil {
		return fmt.Errorf("probe %s: %w", p.URL, err)
	}
	if !wants.Match(page) {
		return fmt.Errorf("probe %s: the page doesn't match %q yet", p.URL, p.Wants)
	}
	return nil
}
