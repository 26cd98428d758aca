package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// spec turns the flags into the request that docker run would send for them.
func (f *containerFlags) spec(image string, command []string) (engine.Spec, error) {
	config, err := f.config(image, command)
	if err != nil {
		return engine.Spec{}, usageError{err}
	}
	host, err := f.hostConfig()
	if err != nil {
		return engine.Spec{}, usageError{err}
	}
	spec := engine.Spec{Config: config, Host: host}
	if spec.Config.ExposedPorts, spec.Host.PortBindings, err = f.ports(); err != nil {
		return engine.Spec{}, usageError{err}
	}
	if spec.Network, err = f.networks(spec.Host); err != nil {
		return engine.Spec{}, usageError{err}
	}
	return spec, nil
}

func (f *containerFlags) config(image string, command []string) (*container.Config, error) {
	env, err := f.environment()
	if err != nil {
		return nil, err
	}
	labels, err := opts.ReadKVStrings(f.labelFile, f.labels)
	if err != nil {
		return nil, fmt.Errorf("--label: %w", err)
	}
	config := &container.Config{
		Image:        image,
		Cmd:          command,
		Env:          env,
		Labels:       opts.ConvertKVStringsToMap(labels),
		User:         f.user,
		WorkingDir:   f.workdir,
		Hostname:     f.hostname,
		Tty:          f.tty,
		StopSignal:   f.stopSignal,
		Volumes:      map[string]struct{}{},
		AttachStdout: true,
		AttachStderr: true,
	}
	if f.given("entrypoint") {
		config.Entrypoint = []string{f.entrypoint} // an empty one asks for none, not for the image's
	}
	if f.given("stop-timeout") {
		config.StopTimeout = &f.stopTimeout
	}
	for _, volume := range f.volumes {
		if !strings.Contains(volume, ":") {
			config.Volumes[volume] = struct{}{} // an anonymous volume
		}
	}
	return config, nil
}

// environment is what the files say, and then the flags; NAME alone passes the caller's variable on.
func (f *containerFlags) environment() ([]string, error) {
	given := make([]string, len(f.env))
	for i, text := range f.env {
		var err error
		if given[i], err = opts.ValidateEnv(text); err != nil {
			return nil, fmt.Errorf("--env %q: %w: want NAME=VALUE, or NAME to pass it on", text, err)
		}
	}
	env, err := opts.ReadKVEnvStrings(f.envFiles, given)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	return env, nil
}

func (f *containerFlags) hostConfig() (*container.HostConfig, error) {
	restart, err := f.restartPolicy()
	if err != nil {
		return nil, fmt.Errorf("--restart %q: %w", f.restart, err)
	}
	mounts, err := f.mountList()
	if err != nil {
		return nil, fmt.Errorf("--mount: %w", err)
	}
	security, err := securityOptions(f.securityOpt)
	if err != nil {
		return nil, fmt.Errorf("--security-opt: %w", err)
	}
	host := &container.HostConfig{
		Binds:           f.binds(),
		Mounts:          mounts,
		Tmpfs:           map[string]string{},
		ReadonlyRootfs:  f.readOnly,
		ShmSize:         f.shmSize.Value(),
		NetworkMode:     container.NetworkMode(f.network.NetworkMode()),
		PublishAllPorts: f.publishAll,
		DNS:             f.dns,
		DNSSearch:       f.dnsSearch,
		DNSOptions:      f.dnsOptions,
		ExtraHosts:      f.extraHosts,
		CapAdd:          f.capAdd,
		CapDrop:         f.capDrop,
		SecurityOpt:     security,
		GroupAdd:        f.groupAdd,
		Privileged:      f.privileged,
		IpcMode:         container.IpcMode(f.ipc),
		PidMode:         container.PidMode(f.pid),
		UTSMode:         container.UTSMode(f.uts),
		UsernsMode:      container.UsernsMode(f.userns),
		CgroupnsMode:    container.CgroupnsMode(f.cgroupns),
		Sysctls:         f.sysctls.GetAll(),
		RestartPolicy:   restart,
		LogConfig:       container.LogConfig{Type: f.logDriver, Config: opts.ConvertKVStringsToMap(f.logOpts)},
		Resources: container.Resources{
			Memory:       f.memory.Value(),
			MemorySwap:   f.memorySwap.Value(),
			NanoCPUs:     f.cpus.Value(),
			CPUShares:    f.cpuShares,
			CpusetCpus:   f.cpusetCPUs,
			CgroupParent: f.cgroupParent,
			Ulimits:      f.ulimits.GetList(),
		},
	}
	if f.given("init") {
		host.Init = &f.init
	}
	if f.given("pids-limit") {
		host.PidsLimit = &f.pidsLimit
	}
	for _, t := range f.tmpfs {
		destination, options, _ := strings.Cut(t, ":")
		host.Tmpfs[destination] = options
	}
	return host, nil
}

func (f *containerFlags) restartPolicy() (container.RestartPolicy, error) {
	given, err := opts.ParseRestartPolicy(f.restart)
	if err != nil {
		return container.RestartPolicy{}, err
	}
	policy := container.RestartPolicy{Name: container.RestartPolicyMode(given.Name), MaximumRetryCount: given.MaximumRetryCount}
	return policy, container.ValidateRestartPolicy(policy)
}

// binds are the volumes that have a source; one that is relative to the working directory is made absolute.
func (f *containerFlags) binds() []string {
	var binds []string
	for _, volume := range f.volumes {
		source, rest, ok := strings.Cut(volume, ":")
		if !ok {
			continue
		}
		if strings.HasPrefix(source, ".") {
			if abs, err := filepath.Abs(source); err == nil {
				source = abs
			}
		}
		binds = append(binds, source+":"+rest)
	}
	return binds
}

// mountList returns the mounts in the types of this engine client; the flag's parser uses those of the client's
// successor, which has the same JSON.
func (f *containerFlags) mountList() ([]mount.Mount, error) {
	b, err := json.Marshal(f.mounts.Value())
	if err != nil {
		return nil, err
	}
	var mounts []mount.Mount
	return mounts, json.Unmarshal(b, &mounts)
}

func (f *containerFlags) ports() (nat.PortSet, nat.PortMap, error) {
	for _, p := range f.publish {
		if _, err := nat.ParsePortSpec(p); err != nil {
			return nil, nil, fmt.Errorf("--publish %q: %w: want [[IP:]HOSTPORT:]PORT[/PROTOCOL]", p, err)
		}
	}
	exposed, bindings, err := nat.ParsePortSpecs(f.publish)
	if err != nil {
		return nil, nil, fmt.Errorf("--publish: %w", err)
	}
	for _, e := range f.expose {
		protocol, portRange := nat.SplitProtoPort(e)
		first, last, err := nat.ParsePortRange(portRange)
		if err != nil {
			return nil, nil, fmt.Errorf("--expose %q: %w: want PORT[-PORT][/PROTOCOL]", e, err)
		}
		for port := first; port <= last; port++ {
			p, err := nat.NewPort(protocol, fmt.Sprint(port))
			if err != nil {
				return nil, nil, fmt.Errorf("--expose %q: %w: want PORT[-PORT][/PROTOCOL]", e, err)
			}
			exposed[p] = struct{}{}
		}
	}
	return exposed, bindings, nil
}

// networks returns the endpoints of a container, nil if its network mode says everything.
func (f *containerFlags) networks(host *container.HostConfig) (*network.NetworkingConfig, error) {
	attachments := f.network.Value()
	if len(f.aliases) > 0 {
		if !host.NetworkMode.IsUserDefined() || len(attachments) != 1 {
			return nil, errors.New("--network-alias: want exactly one --network, of one's own")
		}
		attachments[0].Aliases = append(attachments[0].Aliases, f.aliases...)
	}
	endpoints := map[string]*network.EndpointSettings{}
	for _, n := range attachments {
		if !container.NetworkMode(n.Target).IsUserDefined() {
			if len(attachments) > 1 {
				return nil, fmt.Errorf("--network %s: it can't be combined with other networks", n.Target)
			}
			return nil, nil
		}
		endpoint := &network.EndpointSettings{
			Aliases: n.Aliases, Links: n.Links, DriverOpts: n.DriverOpts, MacAddress: n.MacAddress, GwPriority: n.GwPriority,
		}
		if n.IPv4Address.IsValid() || n.IPv6Address.IsValid() {
			endpoint.IPAMConfig = &network.EndpointIPAMConfig{}
			if n.IPv4Address.IsValid() {
				endpoint.IPAMConfig.IPv4Address = n.IPv4Address.String()
			}
			if n.IPv6Address.IsValid() {
				endpoint.IPAMConfig.IPv6Address = n.IPv6Address.String()
			}
		}
		endpoints[n.Target] = endpoint
	}
	if len(endpoints) == 0 {
		return nil, nil
	}
	return &network.NetworkingConfig{EndpointsConfig: endpoints}, nil
}

// securityOptions reads seccomp profiles, as the engine wants their content rather than their name.
func securityOptions(options []string) ([]string, error) {
	var out []string
	for _, option := range options {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			if name, value, ok = strings.Cut(option, ":"); !ok && option != "no-new-privileges" {
				return nil, fmt.Errorf("%q: want NAME=VALUE", option)
			}
		}
		if name == "seccomp" && value != "unconfined" && value != "builtin" {
			content, err := os.ReadFile(value)
			if err != nil {
				return nil, fmt.Errorf("seccomp profile: %w", err)
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, content); err != nil {
				return nil, fmt.Errorf("seccomp profile %s is not JSON: %w", value, err)
			}
			option = "seccomp=" + compact.String()
		}
		out = append(out, option)
	}
	return out, nil
}

// given reports whether a flag is on the command line.
func (f *containerFlags) given(name string) bool { return f.set.Changed(name) }
