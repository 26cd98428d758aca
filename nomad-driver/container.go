package main

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/ryanuber/go-glob"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// The labels of our containers. They are not those of Nomad's docker driver, which removes by force what it takes for its
// own when both drivers share an engine: see refuseForeignNames.
const (
	labelAllocID = "io.criu-docker.nomad.alloc_id"
	labelNetwork = "io.criu-docker.nomad.network" // of the container that holds a group's network
	labelTaskID  = "io.criu-docker.nomad.task_id"
	labelNodeID  = "io.criu-docker.nomad.node_id"
)

// request is what a task asks the engine for.
type request struct {
	spec  engine.Spec
	ports map[string]int // label → container port
}

// buildRequest turns a task into the engine's terms. Its errors name the attribute, its value and what to do.
func buildRequest(cfg *drivers.TaskConfig, tc *taskConfig, s settings) (*request, error) {
	host := &container.HostConfig{
		NetworkMode:    networkMode(cfg, tc),
		ReadonlyRootfs: tc.ReadonlyRootfs,
		ShmSize:        tc.ShmSize,
		StorageOpt:     tc.StorageOpt.merged(),
		VolumeDriver:   tc.VolumeDriver,
		LogConfig:      logConfig(tc, s),
	}
	if tc.Init {
		host.Init = &tc.Init
	}
	conf := &container.Config{
		Image:      tc.Image,
		Hostname:   hostname(cfg, tc, host.NetworkMode),
		User:       cfg.User,
		Env:        environ(cfg),
		Entrypoint: tc.Entrypoint,
		WorkingDir: tc.WorkDir,
		Tty:        tc.TTY,
		OpenStdin:  tc.Interactive,
		Labels:     labels(cfg, tc, s),
	}
	if tc.Command != "" {
		conf.Cmd = append(conf.Cmd, tc.Command)
	}
	conf.Cmd = append(conf.Cmd, tc.Args...)
	if tc.Healthchecks.Disable {
		conf.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	}

	if err := refuseForeignNames(cfg, conf.Labels); err != nil {
		return nil, err
	}
	if err := limitResources(host, cfg, tc, s); err != nil {
		return nil, err
	}
	if err := secure(host, tc, s); err != nil {
		return nil, err
	}
	if err := mountAll(host, cfg, tc, s); err != nil {
		return nil, err
	}
	if err := setDNS(host, cfg, tc); err != nil {
		return nil, err
	}
	ports, err := publish(conf, host, cfg, tc)
	if err != nil {
		return nil, err
	}
	endpoints, err := endpointSettings(tc, host.NetworkMode)
	if err != nil {
		return nil, err
	}
	return &request{
		spec:  engine.Spec{Name: containerName(cfg), Config: conf, Host: host, Network: endpoints},
		ports: ports,
	}, nil
}

var notInNames = regexp.MustCompile(`[^a-zA-Z0-9_.-]`)

// nameOfDockerDriver is what Nomad's docker driver takes for a container of its own, anywhere in the name and together with
// mounts at /alloc, /local and /secrets: it removes by force those that it doesn't know, five minutes after their start.
var nameOfDockerDriver = regexp.MustCompile(`-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// containerName is the same for every start of a task, so that what an interrupted start left behind is found again.
func containerName(cfg *drivers.TaskConfig) string {
	return "nomad-" + notInNames.ReplaceAllString(cfg.Name, "_") + "-" + plainID(cfg.AllocID) + "-criu"
}

// plainID is an allocation's id without its hyphens, so that no name that it is part of matches nameOfDockerDriver. A task's
// own name may do so still: see refuseForeignNames.
func plainID(allocID string) string { return strings.ReplaceAll(allocID, "-", "") }

// dockerDriverLabel marks the containers of Nomad's docker driver, which removes those that it doesn't know.
const dockerDriverLabel = "com.hashicorp.nomad.alloc_id"

// refuseForeignNames refuses a task whose container Nomad's docker driver would remove as one of its own.
func refuseForeignNames(cfg *drivers.TaskConfig, labels map[string]string) error {
	if nameOfDockerDriver.MatchString("-" + cfg.Name) {
		return fmt.Errorf("the task's name %q has an allocation's id in it: Nomad's docker driver would remove its container as one of its own; "+
			"give the task another name", cfg.Name)
	}
	if value, ok := labels[dockerDriverLabel]; ok {
		return fmt.Errorf("labels has %s = %q, by which Nomad's docker driver knows its own containers, and removes others: leave it out; "+
			"%s holds the same", dockerDriverLabel, value, labelAllocID)
	}
	return nil
}

var notInHostnames = regexp.MustCompile(`[^a-z0-9-]+`)

// hostname is the task's own, or one per allocation: TASK-ALLOC, with the first 8 digits of the allocation's id. It is
// empty where the container shares another's or the host's.
func hostname(cfg *drivers.TaskConfig, tc *taskConfig, mode container.NetworkMode) string {
	if mode.IsContainer() || tc.UTSMode == "host" {
		return ""
	}
	if tc.Hostname != "" {
		return tc.Hostname
	}
	return allocHostname(cfg.Name, cfg.AllocID)
}

// allocHostname makes NAME-ALLOC a valid host name of at most 63 characters.
func allocHostname(name, allocID string) string {
	suffix := allocID[:min(8, len(allocID))]
	name = notInHostnames.ReplaceAllString(strings.ToLower(name), "-")
	name = strings.Trim(name[:min(len(name), 63-1-len(suffix))], "-")
	return strings.Trim(name+"-"+suffix, "-")
}

// environ is the container's environment: the task's, and that of its devices.
func environ(cfg *drivers.TaskConfig) []string {
	env := cfg.EnvList()
	for name, value := range cfg.DeviceEnv {
		if _, ok := cfg.Env[name]; !ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// labels are the task's, those of extra_labels, and ours.
func labels(cfg *drivers.TaskConfig, tc *taskConfig, s settings) map[string]string {
	all := tc.Labels.merged()
	if all == nil {
		all = map[string]string{}
	}
	for name, value := range map[string]string{
		"job_name":        cfg.JobName,
		"job_id":          cfg.JobID,
		"task_group_name": cfg.TaskGroupName,
		"task_name":       cfg.Name,
		"namespace":       cfg.Namespace,
		"node_name":       cfg.NodeName,
		"node_id":         cfg.NodeID,
	} {
		for _, pattern := range s.ExtraLabels {
			if glob.Glob(pattern, name) {
				all["com.hashicorp.nomad."+name] = value
			}
		}
	}
	all[labelAllocID] = cfg.AllocID
	all[labelTaskID] = cfg.ID
	all[labelNodeID] = cfg.NodeID
	return all
}

func logConfig(tc *taskConfig, s settings) container.LogConfig {
	l := tc.Logging
	l.Type = cmp.Or(l.Type, l.Driver)
	if l.Type == "" && len(l.Config) == 0 {
		l = s.Logging
	}
	if l.Type == "" {
		l.Type = s.Logging.Type
	}
	return container.LogConfig{Type: l.Type, Config: l.Config.merged()}
}

// sandboxLabel names the container that holds a group's network, in the network's labels.
const sandboxLabel = "criu_docker_sandbox_container_id"

// hostnameLabel is where Nomad looks for that container's hostname, to tell the group's tasks (HostsConfig).
const hostnameLabel = "docker_sandbox_hostname"

// networkMode joins the group's network if there is one, and takes the task's or the engine's default if not.
func networkMode(cfg *drivers.TaskConfig, tc *taskConfig) container.NetworkMode {
	if tc.NetworkMode != "" {
		return container.NetworkMode(tc.NetworkMode)
	}
	if sandbox := sandboxOf(cfg, tc); sandbox != "" {
		return container.NetworkMode("container:" + sandbox)
	}
	return "bridge"
}

// publish maps the task's port labels to container ports and publishes them on the addresses that Nomad allocated,
// for TCP and UDP unless the label says one: "http/tcp".
func publish(conf *container.Config, host *container.HostConfig, cfg *drivers.TaskConfig, tc *taskConfig) (map[string]int, error) {
	if len(tc.Ports) == 0 {
		return nil, nil
	}
	ports := map[string]int{}
	conf.ExposedPorts, host.PortBindings = nat.PortSet{}, nat.PortMap{}
	for _, entry := range tc.Ports {
		label, proto, one := strings.Cut(entry, "/")
		protos := []string{"tcp", "udp"}
		if one {
			if proto != "tcp" && proto != "udp" {
				return nil, fmt.Errorf("ports has %q: want a port label of the group's network, or LABEL/tcp or LABEL/udp", entry)
			}
			protos = []string{proto}
		}
		if cfg.Resources == nil || cfg.Resources.Ports == nil {
			return nil, fmt.Errorf("ports has %q, but the group allocates no ports: add port %q to its network block", entry, label)
		}
		port, ok := cfg.Resources.Ports.Get(label)
		if !ok {
			return nil, fmt.Errorf("ports has %q, which the group does not allocate: add port %q to its network block", entry, label)
		}
		inside := port.To
		if inside <= 0 {
			inside = port.Value
		}
		ports[label] = inside
		if !host.NetworkMode.IsBridge() && !host.NetworkMode.IsUserDefined() {
			continue // the container shares a network, where there is nothing to publish
		}
		for _, proto := range protos {
			p := nat.Port(fmt.Sprintf("%d/%s", inside, proto))
			conf.ExposedPorts[p] = struct{}{}
			host.PortBindings[p] = append(host.PortBindings[p], nat.PortBinding{HostIP: port.HostIP, HostPort: fmt.Sprint(port.Value)})
		}
	}
	return ports, nil
}

// setDNS takes the group's settings, which Nomad checks, or the task's. A container that shares a network shares the
// files that names are resolved with, too: see nameGroup.
func setDNS(host *container.HostConfig, cfg *drivers.TaskConfig, tc *taskConfig) error {
	for _, entry := range tc.ExtraHosts {
		if name, ip, ok := strings.Cut(entry, ":"); !ok || name == "" || ip == "" || strings.ContainsAny(entry, " \t\n") {
			return fmt.Errorf("extra_hosts has %q: want HOST:IP", entry)
		}
	}
	own := len(tc.DNSServers)+len(tc.DNSSearchDomains)+len(tc.DNSOptions) > 0
	if host.NetworkMode.IsContainer() {
		if own {
			return fmt.Errorf("dns_servers, dns_search_domains and dns_options have no meaning with network_mode = %q: "+
				"use the dns block of the group's network", host.NetworkMode)
		}
		if len(tc.ExtraHosts) > 0 && sandboxOf(cfg, tc) == "" {
			return fmt.Errorf("extra_hosts has no meaning with network_mode = %q: leave it out", host.NetworkMode)
		}
		for _, entry := range tc.ExtraHosts {
			if _, ip, _ := strings.Cut(entry, ":"); net.ParseIP(ip) == nil {
				return fmt.Errorf("extra_hosts has %q: want HOST:IP in a group network", entry)
			}
		}
		return nil
	}
	if cfg.DNS != nil {
		if own {
			return fmt.Errorf("dns_servers, dns_search_domains and dns_options conflict with the dns block of the group's network: keep one of them")
		}
		host.DNS, host.DNSSearch, host.DNSOptions = cfg.DNS.Servers, cfg.DNS.Searches, cfg.DNS.Options
	} else {
		host.DNS, host.DNSSearch, host.DNSOptions = tc.DNSServers, tc.DNSSearchDomains, tc.DNSOptions
	}
	host.ExtraHosts = tc.ExtraHosts
	return nil
}

// endpointSettings are the container's address and aliases on a network of the user's.
func endpointSettings(tc *taskConfig, mode container.NetworkMode) (*network.NetworkingConfig, error) {
	if len(tc.NetworkAliases) == 0 && tc.IPv4Address == "" && tc.IPv6Address == "" && tc.MacAddress == "" {
		return nil, nil
	}
	if mode.IsContainer() || mode.IsHost() || mode.IsNone() {
		return nil, fmt.Errorf("network_aliases, ipv4_address, ipv6_address and mac_address need a network of the container's own: "+
			"leave them out with network_mode = %q", mode)
	}
	return &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		mode.NetworkName(): {
			Aliases:    tc.NetworkAliases,
			MacAddress: tc.MacAddress,
			IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: tc.IPv4Address, IPv6Address: tc.IPv6Address},
		},
	}}, nil
}
