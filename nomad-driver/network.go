package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// driverNetwork tells Nomad where the container can be reached; nil if it has no address of its own.
func (d *Driver) driverNetwork(eng *engine.Engine, containerID string, tc *taskConfig, req *request) (*drivers.DriverNetwork, error) {
	mode := req.spec.Host.NetworkMode
	if mode.IsContainer() || mode.IsHost() || mode.IsNone() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(d.ctx, callTimeout)
	defer cancel()
	c, err := eng.Client.ContainerInspect(ctx, containerID)
	if err != nil {
		return nil, fmt.Errorf("address of container %.12s: %w", containerID, err)
	}
	for name, n := range c.NetworkSettings.Networks {
		ip := n.IPAddress
		if tc.AdvertiseIPv6Address {
			ip = n.GlobalIPv6Address
		}
		if ip == "" {
			continue
		}
		return &drivers.DriverNetwork{
			IP:      ip,
			PortMap: req.ports,
			// On a network of the user's, others reach the container by its own address.
			AutoAdvertise: !container.NetworkMode(name).IsBridge() || tc.AdvertiseIPv6Address,
		}, nil
	}
	return nil, nil
}

// CreateNetwork makes the network namespace that the tasks of a group share: that of a container that does nothing.
// Calling it again for the same allocation returns what is there; created is false then.
func (d *Driver) CreateNetwork(allocID string, req *drivers.NetworkCreateRequest) (spec *drivers.NetworkIsolationSpec, created bool, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.config().imagePullTimeout)
	defer cancel()
	eng, err := d.docker(ctx)
	if err != nil {
		return nil, false, err
	}
	name := sandboxName(allocID)
	c, err := eng.Client.ContainerInspect(ctx, name)
	switch {
	case err == nil && c.State.Running:
		return isolationSpec(c), false, nil
	case err == nil: // it died; its namespace is gone
		if err := eng.Remove(ctx, c.ID); err != nil {
			return nil, false, err
		}
	case !engine.IsNotFound(err):
		return nil, false, fmt.Errorf("network of allocation %s: %w", allocID, err)
	}

	img, err := eng.EnsureImage(ctx, d.config().InfraImage, engine.PullOptions{})
	if err != nil {
		return nil, false, fmt.Errorf("infra_image: %w", err)
	}
	id, err := eng.Create(ctx, engine.Spec{
		Name: name,
		Config: &container.Config{
			Image:    img.ID,
			Hostname: cmp.Or(req.Hostname, allocHostname("nomad", allocID)),
			Labels:   map[string]string{labelAllocID: allocID, labelNetwork: "true"},
		},
		// Nomad connects the namespace; the engine leaves it alone, and restarts the container if it should die.
		Host: &container.HostConfig{NetworkMode: "none", RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}},
	}, "runc")
	if err != nil {
		return nil, false, fmt.Errorf("network of allocation %s: %w", allocID, err)
	}
	if err := eng.Start(ctx, id); err != nil {
		return nil, false, withCleanup(ctx, eng, id, err)
	}
	if c, err = eng.Client.ContainerInspect(ctx, id); err != nil {
		return nil, false, withCleanup(ctx, eng, id, err)
	}
	return isolationSpec(c), true, nil
}

// DestroyNetwork removes what CreateNetwork made; what is gone already is not an error.
func (d *Driver) DestroyNetwork(allocID string, _ *drivers.NetworkIsolationSpec) error {
	ctx, cancel := context.WithTimeout(d.ctx, killTimeout)
	defer cancel()
	eng, err := d.docker(ctx)
	if err != nil {
		return err
	}
	name := sandboxName(allocID)
	c, err := eng.Client.ContainerInspect(ctx, name)
	if engine.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("network of allocation %s: %w", allocID, err)
	}
	if err := eng.Remove(ctx, c.ID); err != nil {
		return err
	}
	return notesOf(eng).forget(c.ID)
}

func sandboxName(allocID string) string { return "nomad-network-" + plainID(allocID) + "-criu" }

func isolationSpec(c container.InspectResponse) *drivers.NetworkIsolationSpec {
	return &drivers.NetworkIsolationSpec{
		Mode:   drivers.NetIsolationModeGroup,
		Path:   c.NetworkSettings.SandboxKey,
		Labels: map[string]string{sandboxLabel: c.ID, hostnameLabel: c.Config.Hostname},
	}
}

// withCleanup removes the container on the way to returning err.
func withCleanup(ctx context.Context, eng *engine.Engine, id string, err error) error {
	if rerr := eng.Remove(context.WithoutCancel(ctx), id); rerr != nil {
		return fmt.Errorf("%w; also: %w", err, rerr)
	}
	return err
}
