package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/structs"

	"github.com/criu-docker/criu-docker/shared/doctor"
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
			seen = seen || f.Health != drivers.HealthStateUndetected
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

// fingerprint looks at the node. Without an engine there is no driver, unless there was one before (seen); with an engine
// that cannot restore, the driver is unhealthy, and the description says what to do.
func (d *Driver) fingerprint(ctx context.Context, seen bool) *drivers.Fingerprint {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	attributes, err := d.attributes(ctx)
	if err == nil {
		return &drivers.Fingerprint{Attributes: attributes, Health: drivers.HealthStateHealthy, HealthDescription: drivers.DriverHealthy}
	}
	d.logger.Debug("this node is not fit", "error", err)
	health := drivers.HealthStateUndetected
	if seen || !errors.Is(err, engine.ErrUnreachable) {
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
	runtime, registered := info.Runtimes[engine.RuntimeName]
	set(".runtime", structs.NewBoolAttribute(registered))
	if registered {
		set(".runtime.path", structs.NewStringAttribute(runtime.Path))
	}
	if err := examine(ctx, eng, set); err != nil {
		return a, err
	}
	set("", structs.NewBoolAttribute(true))
	return a, nil
}

// versions are the attributes that hold what the doctor found.
var versions = map[string]string{"CRIU": ".criu_version", "runc": ".runc_version", "kernel": ".kernel_version"}

// examine reports whether this node can restore containers, as `criu-docker doctor` does.
func examine(ctx context.Context, eng *engine.Engine, set func(name string, value *structs.Attribute)) error {
	checks := doctor.Run(ctx, doctor.Options{Host: eng.Client.DaemonHost()})
	// Freezing goes through the engine's checkpoint API, restoring does not.
	checks = slices.DeleteFunc(checks, func(c doctor.Check) bool { return c.Name == "checkpoint API" })
	for _, c := range checks {
		if name := versions[c.Name]; name != "" && c.Status == doctor.OK {
			version, _, _ := strings.Cut(c.Found, " ")
			set(name, structs.NewStringAttribute(version))
		}
	}
	return doctor.Err(checks)
}
