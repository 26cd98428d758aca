package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// nomadVersion is the version that nomad/go.mod pins.
const nomadVersion = "1.11.3"

// nomadAddress is where the agent of a node answers, for programs in that node.
const nomadAddress = "127.0.0.1:4646"

// nomadBinary is a built agent.
type nomadBinary struct{ path string }

// nomad returns the Nomad agent, built from its source if this machine has none of this version: HashiCorp's releases
// may be out of reach, and the module proxy is needed anyway.
func (l *Lab) nomad(ctx context.Context, k hostKind) (nomadBinary, error) {
	version, module := nomadVersion, "nomad"
	if k.nomad != "" {
		version, module = nomadVersions[k.nomad], "nomad-"+k.nomad
	}
	dir, err := l.cached(ctx, "nomad-"+version, func(tmp string) error {
		source, err := nomadModule(ctx, module)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(tmp, 0o755); err != nil {
			return fmt.Errorf("directory of Nomad: %w", err)
		}
		slog.Info("building Nomad, once for this version; takes some minutes", "version", version, "dir", tmp)
		start := time.Now()
		cmd := exec.CommandContext(ctx, "nice", "-n", "10", "go", "build", "-trimpath", "-ldflags", "-s -w",
			"-o", filepath.Join(tmp, "nomad"), "github.com/hashicorp/nomad")
		cmd.Dir = source
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build Nomad %s in %s: %w\n%s", version, source, err, tail(out))
		}
		slog.Info("built", "nomad", version, "took", time.Since(start).Round(time.Second))
		return nil
	})
	if err != nil {
		return nomadBinary{}, fmt.Errorf("agent of Nomad: %w", err)
	}
	return nomadBinary{filepath.Join(dir, "nomad")}, nil
}

// nomadModule finds the directory of a module that pins Nomad. It can't be embedded, because it is a module.
func nomadModule(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/criu-docker/criu-docker/examples/lab").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of the lab (call it from the checkout for the first time): %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), name), nil
}

// Server and client are two agents: tests restart the client, and a client that is not up before its server has a
// leader and keys waits half a minute until it registers.
const nomadCommon = `bind_addr            = %[1]q
disable_update_check = true

consul {
  auto_advertise   = false
  client_auto_join = false
  server_auto_join = false
}
`

const nomadServerConfig = nomadCommon + `
name     = "server"
data_dir = "/var/lib/nomad/server"

ports {
  http = 4656
}

addresses {
  http = "127.0.0.1"
}

advertise {
  http = "127.0.0.1"
}

server {
  enabled          = true
  bootstrap_expect = 1
}
`

const nomadClientConfig = nomadCommon + `
name       = %[2]q
data_dir   = "/var/lib/nomad/client"
plugin_dir = %[3]q

addresses {
  http = "127.0.0.1 %[1]s"
}

advertise {
  http = %[1]q
}

client {
  enabled           = true
  servers           = [%[4]q]
  network_interface = %[5]q
  cpu_total_compute = 4000
  cgroup_parent     = %[6]q
  cni_path          = "/usr/lib/cni"
  options = {
    "driver.allowlist"     = "criu-docker,docker"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault"
  }
}
`

// nomadPluginConfig is what the driver of this repository adds to a client's configuration.
const nomadPluginConfig = `
plugin "nomad-driver-criu-docker" {
  config {
    allow_privileged = true
    infra_image      = "pause:lab"

    volumes {
      enabled = true
    }

    snapshot {
      store = "gs://snapshots"
    }
  }
}
`

const nomadServerAPI = "127.0.0.1:4656"

// nomadServer runs on the first node.
func (n *Node) nomadServer(nomad nomadBinary) service {
	return service{
		Name:  "nomad-server",
		Argv:  []string{hostRoot + nomad.path, "agent", "-config", "/etc/nomad/server.hcl"},
		Files: map[string]string{"/etc/nomad/server.hcl": fmt.Sprintf(nomadServerConfig, nodeAddress(n.index()))},
		Probe: probe{
			Network: "tcp", Address: nomadServerAPI, URL: "http://" + nomadServerAPI + "/v1/operator/keyring/keys",
			Wants: `"KeyID"`, // without keys it refuses every client
		},
	}
}

// nomadAgent is the client that runs tasks on this node. A directory beside its configuration holds what others add.
func (n *Node) nomadAgent(nomad nomadBinary, docker string, o upOptions) service {
	own := nodeAddress(n.index())
	config := nomadClientConfig
	if !o.bare {
		config += nomadPluginConfig
	}
	cgroup := strings.TrimPrefix(n.cgroup(), "/") + "/nomad"
	if o.host.systemd || o.host.vm {
		cgroup = "nomad.slice"
	}
	return service{
		Name: "nomad",
		Argv: []string{hostRoot + nomad.path, "agent", "-config", "/etc/nomad/client.hcl", "-config", "/etc/nomad/client.d"},
		Env:  []string{"STORAGE_EMULATOR_HOST=http://" + gcsAddress}, // for the plugin, which inherits it
		Files: map[string]string{
			"/etc/nomad/client.hcl":           fmt.Sprintf(config, own, n.Name, pluginDir, nodeAddress(1)+":4647", nodeLink, cgroup),
			"/etc/nomad/client.d/README":      "Files *.hcl here are read after client.hcl.\n",
			filepath.Join(pluginDir, ".keep"): "",
		},
		Probe: probe{
			Network: "tcp", Address: nomadAddress, URL: "http://" + nomadAddress + "/v1/agent/self",
			Wants: `"heartbeat_ttl":"[1-9]`, // registered with the server
		},
		After: []string{docker, "nomad-server"},
	}
}
