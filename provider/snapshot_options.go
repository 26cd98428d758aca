package main

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-units"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
)

// The kinds of mounts.
const (
	mountBind   = string(mount.TypeBind)
	mountVolume = string(mount.TypeVolume)
	mountTmpfs  = string(mount.TypeTmpfs)
)

// options translates a snapshot that is described wholly (snapshotModel.described) for the builder; the store is left out.
func (m *snapshotModel) options(ctx context.Context) (build.Options, diag.Diagnostics) {
	d := decoder{ctx: ctx}
	opts := build.Options{
		Spec:       m.spec(&d),
		Ready:      m.probe(&d),
		Warmup:     m.warmup(&d),
		Hooks:      m.hooks(&d),
		Checkpoint: m.criuOptions(&d),
		CPU:        criu.Baseline(m.CPU.ValueString()),
		Nomad:      m.Nomad.ValueBool(),
		NoProfile:  !m.Profile.IsNull() && !m.Profile.ValueBool(),
	}
	return opts, d.diags
}

type mountModel struct {
	Destination types.String `tfsdk:"destination"`
	Type        types.String `tfsdk:"type"`
	Source      types.String `tfsdk:"source"`
	ReadOnly    types.Bool   `tfsdk:"read_only"`
}

type securityModel struct {
	Privileged     types.Bool   `tfsdk:"privileged"`
	ReadonlyRootfs types.Bool   `tfsdk:"readonly_rootfs"`
	Init           types.Bool   `tfsdk:"init"`
	CapAdd         types.Set    `tfsdk:"cap_add"`
	CapDrop        types.Set    `tfsdk:"cap_drop"`
	SecurityOpt    types.Set    `tfsdk:"security_opt"`
	GroupAdd       types.Set    `tfsdk:"group_add"`
	IpcMode        types.String `tfsdk:"ipc_mode"`
	PidMode        types.String `tfsdk:"pid_mode"`
	UTSMode        types.String `tfsdk:"uts_mode"`
	UsernsMode     types.String `tfsdk:"userns_mode"`
	CgroupnsMode   types.String `tfsdk:"cgroupns_mode"`
	Ulimits        types.Map    `tfsdk:"ulimits"`
	Sysctls        types.Map    `tfsdk:"sysctls"`
}

func (m *snapshotModel) spec(d *decoder) engine.Spec {
	ports, err := exposedPorts(d.strings(m.Ports))
	if err != nil {
		d.diags.AddAttributeError(path.Root("ports"), "Unusable port", err.Error())
	}
	config := &container.Config{
		Image:        m.Image.ValueString(),
		Entrypoint:   d.strings(m.Entrypoint),
		Cmd:          d.strings(m.Command),
		User:         m.User.ValueString(),
		WorkingDir:   m.WorkingDir.ValueString(),
		Hostname:     m.Hostname.ValueString(),
		ExposedPorts: ports,
	}
	for name, value := range d.stringMap(m.Env) {
		config.Env = append(config.Env, name+"="+value)
	}
	slices.Sort(config.Env)

	host := m.hostConfig(d)
	host.NetworkMode = container.NetworkMode(m.NetworkMode.ValueString())
	var mounts []mountModel
	d.elements(m.Mounts, &mounts)
	for _, mnt := range mounts {
		host.Mounts = append(host.Mounts, mount.Mount{
			Type:     mount.Type(mnt.Type.ValueString()),
			Source:   mnt.Source.ValueString(),
			Target:   mnt.Destination.ValueString(),
			ReadOnly: mnt.ReadOnly.ValueBool(),
		})
	}
	slices.SortFunc(host.Mounts, func(a, b mount.Mount) int { return cmp.Compare(a.Target, b.Target) })
	return engine.Spec{Config: config, Host: host}
}

func (m *snapshotModel) hostConfig(d *decoder) *container.HostConfig {
	var s securityModel
	d.object(m.Security, &s)
	host := &container.HostConfig{
		Privileged:     s.Privileged.ValueBool(),
		ReadonlyRootfs: s.ReadonlyRootfs.ValueBool(),
		CapAdd:         d.strings(s.CapAdd),
		CapDrop:        d.strings(s.CapDrop),
		SecurityOpt:    d.strings(s.SecurityOpt),
		GroupAdd:       d.strings(s.GroupAdd),
		IpcMode:        container.IpcMode(s.IpcMode.ValueString()),
		PidMode:        container.PidMode(s.PidMode.ValueString()),
		UTSMode:        container.UTSMode(s.UTSMode.ValueString()),
		UsernsMode:     container.UsernsMode(s.UsernsMode.ValueString()),
		CgroupnsMode:   container.CgroupnsMode(s.CgroupnsMode.ValueString()),
		Sysctls:        d.stringMap(s.Sysctls),
		Init:           s.Init.ValueBoolPointer(),
	}
	for name, limits := range d.stringMap(s.Ulimits) {
		u, err := units.ParseUlimit(name + "=" + limits)
		if err != nil {
			d.diags.AddAttributeError(path.Root("security").AtName("ulimits").AtMapKey(name), "Unusable limit", err.Error())
			continue
		}
		host.Ulimits = append(host.Ulimits, u)
	}
	slices.SortFunc(host.Ulimits, func(a, b *units.Ulimit) int { return cmp.Compare(a.Name, b.Name) })
	m.limit(host, d)
	return host
}

type resourcesModel struct {
	Memory    types.Int64   `tfsdk:"memory"`
	CPUs      types.Float64 `tfsdk:"cpus"`
	CPUShares types.Int64   `tfsdk:"cpu_shares"`
	CPUSet    types.String  `tfsdk:"cpu_set"`
}

func (m *snapshotModel) limit(host *container.HostConfig, d *decoder) {
	var r resourcesModel
	d.object(m.Resources, &r)
	host.Memory = r.Memory.ValueInt64() * units.MiB
	host.NanoCPUs = int64(math.Round(r.CPUs.ValueFloat64() * 1e9))
	host.CPUShares = r.CPUShares.ValueInt64()
	host.CpusetCpus = r.CPUSet.ValueString()
}

type readyModel struct {
	HTTP     *httpProbeModel `tfsdk:"http"`
	TCP      *tcpProbeModel  `tfsdk:"tcp"`
	Exec     *execProbeModel `tfsdk:"exec"`
	Log      *logProbeModel  `tfsdk:"log"`
	Interval types.String    `tfsdk:"interval"`
	Timeout  types.String    `tfsdk:"timeout"`
}

type httpProbeModel struct {
	Port   types.Int64  `tfsdk:"port"`
	Path   types.String `tfsdk:"path"`
	Status types.Int64  `tfsdk:"status"`
}

type tcpProbeModel struct {
	Port types.Int64 `tfsdk:"port"`
}

type execProbeModel struct {
	Command types.List `tfsdk:"command"`
}

type logProbeModel struct {
	Pattern types.String `tfsdk:"pattern"`
}

func (m *snapshotModel) probe(d *decoder) build.Probe {
	var r readyModel
	d.object(m.Ready, &r)
	probe := build.Probe{
		Interval: d.duration(path.Root("ready").AtName("interval"), r.Interval),
		Timeout:  d.duration(path.Root("ready").AtName("timeout"), r.Timeout),
	}
	switch {
	case r.HTTP != nil:
		probe.Type = build.ProbeHTTP
		probe.Port = int(r.HTTP.Port.ValueInt64())
		probe.Path = r.HTTP.Path.ValueString()
		probe.Status = int(r.HTTP.Status.ValueInt64())
		if probe.Path == "" {
			probe.Path = "/"
		}
	case r.TCP != nil:
		probe.Type = build.ProbeTCP
		probe.Port = int(r.TCP.Port.ValueInt64())
	case r.Exec != nil:
		probe.Type = build.ProbeExec
		probe.Command = d.strings(r.Exec.Command)
	case r.Log != nil:
		probe.Type = build.ProbeLog
		probe.Pattern = r.Log.Pattern.ValueString()
	}
	return probe
}

type warmUpModel struct {
	Method types.String `tfsdk:"method"`
	Port   types.Int64  `tfsdk:"port"`
	Path   types.String `tfsdk:"path"`
	Header types.Map    `tfsdk:"header"`
	Body   types.String `tfsdk:"body"`
	Status types.Int64  `tfsdk:"status"`
	Count  types.Int64  `tfsdk:"count"`
}

func (m *snapshotModel) warmup(d *decoder) []build.WarmupRequest {
	var list []warmUpModel
	d.elements(m.WarmUp, &list)
	var requests []build.WarmupRequest
	for _, w := range list {
		request := build.WarmupRequest{
			Method: w.Method.ValueString(),
			Port:   int(w.Port.ValueInt64()),
			Path:   w.Path.ValueString(),
			Header: d.stringMap(w.Header),
			Body:   w.Body.ValueString(),
			Status: int(w.Status.ValueInt64()),
			Count:  max(1, int(w.Count.ValueInt64())),
		}
		if request.Method == "" {
			request.Method = "GET"
		}
		requests = append(requests, request)
	}
	return requests
}

type checkpointModel struct {
	TCP        types.String `tfsdk:"tcp"`
	FileLocks  types.Bool   `tfsdk:"file_locks"`
	GhostLimit types.Int64  `tfsdk:"ghost_limit"`
	ExtUnixSk  types.Bool   `tfsdk:"ext_unix_sk"`
	LinkRemap  types.Bool   `tfsdk:"link_remap"`
}

func (m *snapshotModel) criuOptions(d *decoder) criu.Options {
	var c checkpointModel
	d.object(m.Checkpoint, &c)
	opts := criu.DefaultOptions()
	if !c.TCP.IsNull() {
		opts.TCP = criu.TCP(c.TCP.ValueString())
	}
	if !c.FileLocks.IsNull() {
		opts.FileLocks = c.FileLocks.ValueBool()
	}
	if !c.GhostLimit.IsNull() {
		opts.GhostLimit = c.GhostLimit.ValueInt64()
	}
	opts.ExtUnixSk = c.ExtUnixSk.ValueBool()
	if !c.LinkRemap.IsNull() {
		opts.LinkRemap = c.LinkRemap.ValueBool()
	}
	return opts
}
