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
func (l *Lab) nomad(ctx context.Context) (nomadBinary, error) {
	dir := filepath.Join(l.Cache, "nomad-"+nomadVersion)
	err := buildOnce(ctx, dir, func(tmp string) error {
		source, err := nomadModule(ctx)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(tmp, 0o755); err != nil {
			return fmt.Errorf("directory of Nomad: %w", err)
		}
		slog.Info("building Nomad, once for this version; takes some minutes", "version", nomadVersion, "dir", dir)
		start := time.Now()
		cmd := exec.CommandContext(ctx, "nice", "-n", "10", "go", "build", "-trimpath", "-ldflags", "-s -w",
			"-o", filepath.Join(tmp, "nomad"), "github.com/hashicorp/nomad")
		cmd.Dir = source
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build Nomad %s in %s: %w\n%s", nomadVersion, source, err, tail(out))
		}
		slog.Info("built", "nomad", nomadVersion, "took", time.Since(start).Round(time.Second))
		return nil
	})
	if err != nil {
		return nomadBinary{}, fmt.Errorf("agent of Nomad: %w", err)
	}
	return nomadBinary{filepath.Join(dir, "nomad")}, nil
}

// nomadModule finds the directory of the module that pins Nomad. It can't be embedded, because it is a module.
func nomadModule(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/criu-docker/criu-docker/examples/lab").Output()
	if err != nil {
		return "", fmt.Errorf("find the source of the lab (call it from the checkout for the first time): %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "nomad"), nil
}

// nomadConfig is the part of an agent's configuration that the lab decides. A directory beside it holds what others
// add, such as the configuration of a plugin.
func (n *Node) nomadConfig() string {
	own := nodeAddress(n.index())
	config := fmt.Sprintf(`name                 = %[1]q
data_dir             = "/var/lib/nomad"
plugin_dir           = %[2]q
bind_addr            = %[3]q
disable_update_check = true

addresses {
  http = "127.0.0.1 %[3]s"
}

advertise {
  http = %[3]q
  rpc  = %[3]q
  serf = %[3]q
}

client {
  enabled           = true
  servers           = [%[4]q]
  network_interface = %[5]q
  cpu_total_compute = 4000
  cgroup_parent     = %[6]q
  cni_path          = "/usr/lib/cni"
  options = {
    "driver.allowlist"     = "criu-docker"
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault"
  }
}

plugin "nomad-driver-criu-docker" {
  config {
    allow_privileged = true
    infra_image      = "pause:lab"

    volumes {
      enabled = true
    }
  }
}

consul {
  auto_advertise   = false
  client_auto_join = false
  server_auto_join = false
}
`, n.Name, pluginDir, own, nodeAddress(1)+":4647", nodeLink, strings.TrimPrefix(n.cgroup(), "/")+"/nomad")
	if n.index() == 1 {
		config += `
server {
  enabled          = true
  bootstrap_expect = 1
}
`
	}
	return config
}

func (n *Node) nomadAgent(nomad nomadBinary) service {
	return service{
		Name: "nomad",
		Argv: []string{hostRoot + nomad.path, "agent", "-config", "/etc/nomad/lab.hcl", "-config", "/etc/nomad/extra"},
		Env:  []string{"STORAGE_EMULATOR_HOST=http://" + gcsAddress}, // for the plugin, which inherits it
		Files: map[string]string{
			"/etc/nomad/lab.hcl":              n.nomadConfig(),
			"/etc/nomad/extra/README":         "Files *.hcl here are read after lab.hcl.\n",
			filepath.Join(pluginDir, ".keep"): "",
		},
		Probe: probe{"tcp", nomadAddress, "http://" + nomadAddress + "/v1/agent/health"},
	}
}
