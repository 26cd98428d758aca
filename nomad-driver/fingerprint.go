package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/structs"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
)

// fingerprintPeriod is how often Nomad learns whether this node can run tasks.
const fingerprintPeriod = 30 * time.Second

// Fingerprint is part of drivers.DriverPlugin.
func (d *Driver) Fingerprint(ctx context.Context) (<-chan *drivers.Fingerprint, error) {
	fingerprints := make(chan *drivers.Fingerprint)
	go func() {
		defer close(fingerprints)
		seen := false
		for {
			f := d.fingerprint(ctx, seen)
			seen = seen || f.Health == drivers.HealthStateHealthy
			select {
			case fingerprints <- f:
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
			select {
			case <-time.After(fingerprintPeriod):
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
		}
	}()
	return fingerprints, nil
}

// fingerprint looks at the engine. A node that never was fit has no driver; one that was is unhealthy.
func (d *Driver) fingerprint(ctx context.Context, seen bool) *drivers.Fingerprint {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	attributes, err := d.attributes(ctx)
	if err == nil {
		return &drivers.Fingerprint{Attributes: attributes, Health: drivers.HealthStateHealthy, HealthDescription: drivers.DriverHealthy}
	}
	d.logger.Debug("this node is not fit", "error", err)
	health := drivers.HealthStateUndetected
	if seen {
		health = drivers.HealthStateUnhealthy
	}
	return &drivers.Fingerprint{Attributes: attributes, Health: health, HealthDescription: err.Error()}
}

// attributes describe the node. The error says why it cannot run tasks and what to do.
func (d *Driver) attributes(ctx context.Context) (map[string]*structs.Attribute, error) {
	s := d.config()
	a := map[string]*structs.Attribute{}
	set := func(name string, value *structs.Attribute) { a["driver."+pluginName+name] = value }

	eng, err := d.docker(ctx)
	if err != nil {
		return a, err
	}
	info, err := eng.Client.Info(ctx)
	if err != nil {
		return a, fmt.Errorf("%w: %w", engine.ErrUnreachable, err)
	}
	set(".version", structs.NewStringAttribute(info.ServerVersion))
	set(".os_type", structs.NewStringAttribute(info.OSType))
	set(".runtimes", structs.NewStringAttribute(strings.Join(slices.Sorted(maps.Keys(info.Runtimes)), ",")))
	set(".volumes.enabled", structs.NewBoolAttribute(s.Volumes.Enabled))
	set(".privileged.enabled", structs.NewBoolAttribute(s.AllowPrivileged))
	if s.PidsLimit > 0 {
		set(".pids.limit", structs.NewIntAttribute(s.PidsLimit, ""))
	}
	if bridge, err := eng.Client.NetworkInspect(ctx, network.NetworkBridge, network.InspectOptions{}); err == nil && len(bridge.IPAM.Config) > 0 {
		set(".bridge_ip", structs.NewStringAttribute(bridge.IPAM.Config[0].Gateway))
	}
	if err := checkNode(ctx, info, set); err != nil {
		return a, err
	}
	set("", structs.NewBoolAttribute(true))
	return a, nil
}

// minDocker is the oldest engine whose network can be set up between a container's creation and its start.
const minDocker = "28.0.0"

// checkNode tells whether this node can restore containers.
func checkNode(ctx context.Context, info system.Info, set func(name string, value *structs.Attribute)) error {
	if criu.Older(info.ServerVersion, minDocker) {
		return fmt.Errorf("version %s of Docker Engine is too old: install %s or later", info.ServerVersion, minDocker)
	}
	runtime, ok := info.Runtimes[engine.RuntimeName]
	set(".runtime", structs.NewBoolAttribute(ok))
	if !ok {
		return fmt.Errorf("the OCI runtime %q is not registered in dockerd: run `criu-docker runtime install`", engine.RuntimeName)
	}
	set(".runtime.path", structs.NewStringAttribute(runtime.Path))
	host, err := criu.HostInfo(ctx)
	if err != nil {
		return err
	}
	set(".criu_version", structs.NewStringAttribute(host.CRIU))
	if criu.Older(host.CRIU, criu.MinVersion) {
		return fmt.Errorf("CRIU %s is too old: install %s or later", host.CRIU, criu.MinVersion)
	}
	return nil
}
