package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/drivers/shared/resolvconf"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/nomad-driver/foreign"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/owned"
)

// nameGroup puts what Nomad and the job know of names into the hosts and resolv.conf files of the container that holds
// the network of the task's group, which the engine has all tasks of the group share. Mounts of the task's own, which
// Nomad's docker driver uses, would be mounts that no snapshot has.
func (d *Driver) nameGroup(eng *engine.Engine, cfg *drivers.TaskConfig, tc *taskConfig) error {
	sandbox := sandboxOf(cfg, tc)
	if sandbox == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
	defer cancel()
	c, err := eng.Client.ContainerInspect(ctx, sandbox)
	if err != nil {
		return structs.NewRecoverableError(fmt.Errorf("network of the task's group: %w", err), true)
	}
	d.naming.Lock()
	defer d.naming.Unlock()
	if err := addLines(c.HostsPath, hostsLines(cfg, tc)); err != nil {
		return fmt.Errorf("hosts of the task's group: %w", err)
	}
	if cfg.DNS == nil {
		return nil
	}
	content, err := resolvConf(notesOf(eng), sandbox, cfg.DNS)
	if err != nil {
		return fmt.Errorf("dns of the task's group: %w", err)
	}
	// In place, as the file is mounted in the group's other containers.
	if err := os.WriteFile(c.ResolvConfPath, content, 0o644); err != nil {
		return fmt.Errorf("dns of the task's group: %w", err)
	}
	return nil
}

// resolvConf is what Nomad would mount into the task. It is made in a directory of ours: in the task's, the task could put a link in
// its place.
func resolvConf(n notes, sandbox string, dns *drivers.DNSConfig) ([]byte, error) {
	dir, err := n.file(dnsNotes, sandbox)
	if err == nil {
		err = os.MkdirAll(dir, owned.DirMode)
	}
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // or it goes with the container
	file, err := resolvconf.GenerateDNSMount(dir, dns)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(file.HostPath)
}

// sandboxOf returns the id of the container that holds the network that the task joins; "" if it has its own.
func sandboxOf(cfg *drivers.TaskConfig, tc *taskConfig) string {
	if tc.NetworkMode != "" || cfg.NetworkIsolation == nil {
		return ""
	}
	return cfg.NetworkIsolation.Labels[sandboxLabel]
}

// hostsLines are the address and name of the allocation, and the task's extra_hosts.
func hostsLines(cfg *drivers.TaskConfig, tc *taskConfig) []string {
	var lines []string
	if own := cfg.NetworkIsolation.HostsConfig; own != nil && own.Address != "" && own.Hostname != "" {
		lines = append(lines, own.Address+" "+own.Hostname)
	}
	for _, entry := range tc.ExtraHosts {
		name, ip, _ := strings.Cut(entry, ":")
		lines = append(lines, ip+" "+name)
	}
	return lines
}

// hostsLimit is far more than a hosts file has.
const hostsLimit = 1 << 20

// addLines appends those lines that a file does not have.
func addLines(file string, lines []string) error {
	content, err := foreign.ReadFile(file, hostsLimit) // tasks can write to it
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for line := range bytes.Lines(content) {
		has[strings.TrimSpace(string(line))] = true
	}
	lines = slices.DeleteFunc(lines, func(line string) bool { return has[line] })
	if len(lines) == 0 {
		return nil
	}
	if len(content) > 0 && !bytes.HasSuffix(content, []byte("\n")) {
		content = append(content, '\n')
	}
	return os.WriteFile(file, append(content, strings.Join(lines, "\n")+"\n"...), 0o644)
}
