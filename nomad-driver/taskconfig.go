package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"

	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// taskConfig is a task's config block. The names and meanings are those of Nomad's docker driver; snapshot is ours.
type taskConfig struct {
	Image            string       `codec:"image"`
	ImagePullTimeout string       `codec:"image_pull_timeout"`
	ForcePull        bool         `codec:"force_pull"`
	Load             string       `codec:"load"` // tar of the image, relative to the task's local/
	Auth             registryAuth `codec:"auth"`
	AuthSoftFail     bool         `codec:"auth_soft_fail"`

	Entrypoint  []string `codec:"entrypoint"`
	Command     string   `codec:"command"`
	Args        []string `codec:"args"`
	WorkDir     string   `codec:"work_dir"`
	Init        bool     `codec:"init"`
	Interactive bool     `codec:"interactive"`
	TTY         bool     `codec:"tty"`
	Hostname    string   `codec:"hostname"`

	NetworkMode          string     `codec:"network_mode"`
	NetworkAliases       []string   `codec:"network_aliases"`
	IPv4Address          string     `codec:"ipv4_address"`
	IPv6Address          string     `codec:"ipv6_address"`
	MacAddress           string     `codec:"mac_address"`
	AdvertiseIPv6Address bool       `codec:"advertise_ipv6_address"`
	Ports                []string   `codec:"ports"`
	ExtraHosts           []string   `codec:"extra_hosts"`
	DNSServers           []string   `codec:"dns_servers"`
	DNSSearchDomains     []string   `codec:"dns_search_domains"`
	DNSOptions           []string   `codec:"dns_options"`
	Volumes              []string   `codec:"volumes"`
	VolumeDriver         string     `codec:"volume_driver"`
	Mount                []mountCfg `codec:"mount"`
	Mounts               []mountCfg `codec:"mounts"`
	Devices              []device   `codec:"devices"`
	ReadonlyRootfs       bool       `codec:"readonly_rootfs"`
	ShmSize              int64      `codec:"shm_size"` // bytes
	StorageOpt           stringMaps `codec:"storage_opt"`

	CPUHardLimit    bool  `codec:"cpu_hard_limit"`
	CPUCFSPeriod    int64 `codec:"cpu_cfs_period"`    // microseconds
	MemoryHardLimit int64 `codec:"memory_hard_limit"` // MB
	PidsLimit       int64 `codec:"pids_limit"`
	OOMScoreAdj     int   `codec:"oom_score_adj"`

	CapAdd       []string   `codec:"cap_add"`
	CapDrop      []string   `codec:"cap_drop"`
	Privileged   bool       `codec:"privileged"`
	SecurityOpt  []string   `codec:"security_opt"`
	Sysctl       stringMaps `codec:"sysctl"`
	Ulimit       stringMaps `codec:"ulimit"`
	GroupAdd     []string   `codec:"group_add"`
	IPCMode      string     `codec:"ipc_mode"`
	PidMode      string     `codec:"pid_mode"`
	UTSMode      string     `codec:"uts_mode"`
	UsernsMode   string     `codec:"userns_mode"`
	CgroupnsMode string     `codec:"cgroupns"`

	Labels       stringMaps    `codec:"labels"`
	Logging      loggingConfig `codec:"logging"`
	Healthchecks healthchecks  `codec:"healthchecks"`

	Snapshot taskSnapshot `codec:"snapshot"`
}

type registryAuth struct {
	Username      string `codec:"username"`
	Password      string `codec:"password"`
	ServerAddress string `codec:"server_address"`
}

type mountCfg struct {
	Type          string        `codec:"type"` // "volume" (default), "bind" or "tmpfs"
	Target        string        `codec:"target"`
	Source        string        `codec:"source"`
	ReadOnly      bool          `codec:"readonly"`
	BindOptions   bindOptions   `codec:"bind_options"`
	TmpfsOptions  tmpfsOptions  `codec:"tmpfs_options"`
	VolumeOptions volumeOptions `codec:"volume_options"`
}

type bindOptions struct {
	Propagation string `codec:"propagation"`
}

type tmpfsOptions struct {
	SizeBytes int64 `codec:"size"`
	Mode      int   `codec:"mode"`
}

type volumeOptions struct {
	NoCopy       bool         `codec:"no_copy"`
	Labels       stringMaps   `codec:"labels"`
	DriverConfig volumeDriver `codec:"driver_config"`
}

type volumeDriver struct {
	Name    string     `codec:"name"`
	Options stringMaps `codec:"options"`
}

type device struct {
	HostPath          string `codec:"host_path"`
	ContainerPath     string `codec:"container_path"`
	CgroupPermissions string `codec:"cgroup_permissions"`
}

type healthchecks struct {
	Disable bool `codec:"disable"`
}

// taskSnapshot says how the task is to be started. What is empty comes from the plugin's configuration.
type taskSnapshot struct {
	Store   string `codec:"store"`
	Policy  string `codec:"policy"`
	Ref     string `codec:"ref"`
	Memory  string `codec:"memory"`
	Timeout string `codec:"timeout"`
	// AfterRestore are hooks in place of the snapshot's own, as hook.ParseOverride reads them.
	AfterRestore []string `codec:"after_restore"`
}

// stringMaps is a map attribute. HCL lets a job write it as a block as well, which arrives as a list of maps.
type stringMaps []map[string]string

// merged returns all entries in one map; later maps win. It is nil when there are none.
func (s stringMaps) merged() map[string]string {
	var all map[string]string
	for _, m := range s {
		for k, v := range m {
			if all == nil {
				all = map[string]string{}
			}
			all[k] = v
		}
	}
	return all
}

var mountSpec = hclspec.NewObject(map[string]*hclspec.Spec{
	"type":     withDefault("type", "string", `"volume"`),
	"target":   hclspec.NewAttr("target", "string", true),
	"source":   hclspec.NewAttr("source", "string", false),
	"readonly": hclspec.NewAttr("readonly", "bool", false),
	"bind_options": hclspec.NewBlock("bind_options", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"propagation": hclspec.NewAttr("propagation", "string", false),
	})),
	"tmpfs_options": hclspec.NewBlock("tmpfs_options", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"size": hclspec.NewAttr("size", "number", false),
		"mode": hclspec.NewAttr("mode", "number", false),
	})),
	"volume_options": hclspec.NewBlock("volume_options", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"no_copy": hclspec.NewAttr("no_copy", "bool", false),
		"labels":  hclspec.NewAttr("labels", "list(map(string))", false),
		"driver_config": hclspec.NewBlock("driver_config", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"name":    hclspec.NewAttr("name", "string", false),
			"options": hclspec.NewAttr("options", "list(map(string))", false),
		})),
	})),
})

// taskConfigSpec describes taskConfig to Nomad.
var taskConfigSpec = hclspec.NewObject(map[string]*hclspec.Spec{
	"image":              hclspec.NewAttr("image", "string", true),
	"image_pull_timeout": hclspec.NewAttr("image_pull_timeout", "string", false),
	"force_pull":         hclspec.NewAttr("force_pull", "bool", false),
	"load":               hclspec.NewAttr("load", "string", false),
	"auth": hclspec.NewBlock("auth", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"username":       hclspec.NewAttr("username", "string", false),
		"password":       hclspec.NewAttr("password", "string", false),
		"server_address": hclspec.NewAttr("server_address", "string", false),
	})),
	"auth_soft_fail": hclspec.NewAttr("auth_soft_fail", "bool", false),

	"entrypoint":  hclspec.NewAttr("entrypoint", "list(string)", false),
	"command":     hclspec.NewAttr("command", "string", false),
	"args":        hclspec.NewAttr("args", "list(string)", false),
	"work_dir":    hclspec.NewAttr("work_dir", "string", false),
	"init":        hclspec.NewAttr("init", "bool", false),
	"interactive": hclspec.NewAttr("interactive", "bool", false),
	"tty":         hclspec.NewAttr("tty", "bool", false),
	"hostname":    hclspec.NewAttr("hostname", "string", false),

	"network_mode":           hclspec.NewAttr("network_mode", "string", false),
	"network_aliases":        hclspec.NewAttr("network_aliases", "list(string)", false),
	"ipv4_address":           hclspec.NewAttr("ipv4_address", "string", false),
	"ipv6_address":           hclspec.NewAttr("ipv6_address", "string", false),
	"mac_address":            hclspec.NewAttr("mac_address", "string", false),
	"advertise_ipv6_address": hclspec.NewAttr("advertise_ipv6_address", "bool", false),
	"ports":                  hclspec.NewAttr("ports", "list(string)", false),
	"extra_hosts":            hclspec.NewAttr("extra_hosts", "list(string)", false),
	"dns_servers":            hclspec.NewAttr("dns_servers", "list(string)", false),
	"dns_search_domains":     hclspec.NewAttr("dns_search_domains", "list(string)", false),
	"dns_options":            hclspec.NewAttr("dns_options", "list(string)", false),

	"volumes":       hclspec.NewAttr("volumes", "list(string)", false),
	"volume_driver": hclspec.NewAttr("volume_driver", "string", false),
	"mount":         hclspec.NewBlockList("mount", mountSpec),
	"mounts":        hclspec.NewBlockList("mounts", mountSpec),
	"devices": hclspec.NewBlockList("devices", hclspec.NewObject(map[string]*hclspec.Spec{
		"host_path":          hclspec.NewAttr("host_path", "string", true),
		"container_path":     hclspec.NewAttr("container_path", "string", false),
		"cgroup_permissions": hclspec.NewAttr("cgroup_permissions", "string", false),
	})),
	"readonly_rootfs": hclspec.NewAttr("readonly_rootfs", "bool", false),
	"shm_size":        hclspec.NewAttr("shm_size", "number", false),
	"storage_opt":     hclspec.NewAttr("storage_opt", "list(map(string))", false),

	"cpu_hard_limit":    hclspec.NewAttr("cpu_hard_limit", "bool", false),
	"cpu_cfs_period":    withDefault("cpu_cfs_period", "number", "100000"),
	"memory_hard_limit": hclspec.NewAttr("memory_hard_limit", "number", false),
	"pids_limit":        hclspec.NewAttr("pids_limit", "number", false),
	"oom_score_adj":     hclspec.NewAttr("oom_score_adj", "number", false),

	"cap_add":      hclspec.NewAttr("cap_add", "list(string)", false),
	"cap_drop":     hclspec.NewAttr("cap_drop", "list(string)", false),
	"privileged":   hclspec.NewAttr("privileged", "bool", false),
	"security_opt": hclspec.NewAttr("security_opt", "list(string)", false),
	"sysctl":       hclspec.NewAttr("sysctl", "list(map(string))", false),
	"ulimit":       hclspec.NewAttr("ulimit", "list(map(string))", false),
	"group_add":    hclspec.NewAttr("group_add", "list(string)", false),
	"ipc_mode":     hclspec.NewAttr("ipc_mode", "string", false),
	"pid_mode":     hclspec.NewAttr("pid_mode", "string", false),
	"uts_mode":     hclspec.NewAttr("uts_mode", "string", false),
	"userns_mode":  hclspec.NewAttr("userns_mode", "string", false),
	"cgroupns":     hclspec.NewAttr("cgroupns", "string", false),

	"labels": hclspec.NewAttr("labels", "list(map(string))", false),
	"logging": hclspec.NewBlock("logging", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"type":   hclspec.NewAttr("type", "string", false),
		"driver": hclspec.NewAttr("driver", "string", false),
		"config": hclspec.NewAttr("config", "list(map(string))", false),
	})),
	"healthchecks": hclspec.NewBlock("healthchecks", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"disable": hclspec.NewAttr("disable", "bool", false),
	})),

	"snapshot": hclspec.NewBlock("snapshot", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"store":   hclspec.NewAttr("store", "string", false),
		"policy":  hclspec.NewAttr("policy", "string", false),
		"ref":     hclspec.NewAttr("ref", "string", false),
		"memory":  hclspec.NewAttr("memory", "string", false),
		"timeout": hclspec.NewAttr("timeout", "string", false),

		"after_restore": hclspec.NewAttr("after_restore", "list(string)", false),
	})),
})

// decodeTask reads a task's config block.
func decodeTask(cfg *drivers.TaskConfig) (*taskConfig, error) {
	tc := &taskConfig{}
	if err := cfg.DecodeDriverConfig(tc); err != nil {
		return nil, fmt.Errorf("config of task %q: %w", cfg.Name, err)
	}
	tc.Image = strings.TrimPrefix(tc.Image, "https://")
	if tc.Image == "" {
		return nil, fmt.Errorf("config of task %q: image is empty: name the image to run", cfg.Name)
	}
	return tc, nil
}

// startPlan is how a task is to be started, with the plugin's defaults filled in.
type startPlan struct {
	policy  restore.Policy
	store   string // address
	ref     string
	memory  restore.Memory
	timeout time.Duration
	hooks   []hook.Hook // in place of the snapshot's; nil if those are to be run
}

// plan completes the task's snapshot block by the plugin's configuration. A task may only name a store that the
// operator allows: a snapshot is a process image, so the choice of a store is a choice of what runs, with which privileges.
func (tc *taskConfig) plan(s settings) (startPlan, error) {
	p := startPlan{
		policy:  restore.Policy(s.Snapshot.Policy),
		store:   s.Snapshot.Store,
		ref:     tc.Snapshot.Ref,
		memory:  restore.Memory(s.Snapshot.Memory),
		timeout: s.snapshotTimeout,
	}
	var err error
	if tc.Snapshot.Policy != "" {
		if p.policy, err = parsePolicy("snapshot.policy", tc.Snapshot.Policy); err != nil {
			return startPlan{}, err
		}
	}
	if tc.Snapshot.Memory != "" {
		if p.memory, err = parseMemory("snapshot.memory", tc.Snapshot.Memory); err != nil {
			return startPlan{}, err
		}
	}
	if tc.Snapshot.Timeout != "" {
		if p.timeout, err = parseDuration("snapshot.timeout", tc.Snapshot.Timeout); err != nil {
			return startPlan{}, err
		}
	}
	if p.hooks, err = hook.ParseOverride(tc.Snapshot.AfterRestore); err != nil {
		return startPlan{}, fmt.Errorf("snapshot.after_restore = %q: %w", tc.Snapshot.AfterRestore, err)
	}
	if tc.Snapshot.Store != "" {
		if p.store, err = canonicalStore(tc.Snapshot.Store); err != nil {
			return startPlan{}, fmt.Errorf("snapshot.store = %q: %w", tc.Snapshot.Store, err)
		}
		if p.store != s.Snapshot.Store && !s.allowedStores.allow(p.store) {
			return startPlan{}, fmt.Errorf("snapshot.store = %q is not allowed on this client: leave it out, or add it to "+
				"snapshot.allow_stores in the configuration of plugin %q", tc.Snapshot.Store, pluginBlock)
		}
	}
	return p, nil
}
