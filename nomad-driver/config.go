package main

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/hashicorp/nomad/drivers/shared/capabilities"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// pluginConfig is the plugin's block in the agent's configuration, as Nomad hands it over.
type pluginConfig struct {
	Endpoint             string         `codec:"endpoint"`
	Auth                 authFiles      `codec:"auth"`
	Volumes              volumesConfig  `codec:"volumes"`
	AllowPrivileged      bool           `codec:"allow_privileged"`
	AllowCaps            []string       `codec:"allow_caps"`
	PidsLimit            int64          `codec:"pids_limit"`
	ExtraLabels          []string       `codec:"extra_labels"`
	Logging              loggingConfig  `codec:"logging"`
	DisableLogCollection bool           `codec:"disable_log_collection"`
	ImagePullTimeout     string         `codec:"image_pull_timeout"`
	PullActivityTimeout  string         `codec:"pull_activity_timeout"`
	InfraImage           string         `codec:"infra_image"`
	GC                   gcConfig       `codec:"gc"`
	Cache                cacheConfig    `codec:"cache"`
	Snapshot             snapshotConfig `codec:"snapshot"`
}

// authFiles tells where registry credentials come from when the task brings none.
type authFiles struct {
	Config string `codec:"config"` // file in the format of docker's config.json
	Helper string `codec:"helper"` // credential helper, without its "docker-credential-" prefix
}

type volumesConfig struct {
	Enabled      bool   `codec:"enabled"`
	SELinuxLabel string `codec:"selinuxlabel"`
}

// loggingConfig is an engine log driver and its options, for all tasks or for one.
type loggingConfig struct {
	Type   string     `codec:"type"`
	Driver string     `codec:"driver"` // an older name of type, for tasks only
	Config stringMaps `codec:"config"`
}

type gcConfig struct {
	Container          bool           `codec:"container"`
	DanglingContainers danglingConfig `codec:"dangling_containers"`
}

type danglingConfig struct {
	Enabled       bool   `codec:"enabled"`
	DryRun        bool   `codec:"dry_run"`
	Period        string `codec:"period"`
	CreationGrace string `codec:"creation_grace"`
}

type cacheConfig struct {
	Dir     string `codec:"dir"`
	MaxSize string `codec:"max_size"`
}

// snapshotConfig holds what tasks get that don't say otherwise, and which stores they may name.
type snapshotConfig struct {
	Store       string   `codec:"store"`
	AllowStores []string `codec:"allow_stores"`
	Untrusted   bool     `codec:"allow_untrusted_stores"`
	Policy      string   `codec:"policy"`
	Memory      string   `codec:"memory"`
	Timeout     string   `codec:"timeout"`
}

// settings are the plugin's configuration, checked and converted.
type settings struct {
	pluginConfig
	imagePullTimeout    time.Duration
	pullActivityTimeout time.Duration
	sweepPeriod         time.Duration
	creationGrace       time.Duration
	cacheMaxBytes       int64
	snapshotTimeout     time.Duration
	allowedStores       allowedStores
}

// configSpec describes pluginConfig to Nomad. A block's default applies when the block is missing, its attributes'
// defaults when they are.
var configSpec = hclspec.NewObject(map[string]*hclspec.Spec{
	"endpoint": hclspec.NewAttr("endpoint", "string", false),
	"auth": hclspec.NewBlock("auth", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"config": hclspec.NewAttr("config", "string", false),
		"helper": hclspec.NewAttr("helper", "string", false),
	})),
	"volumes": hclspec.NewBlock("volumes", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"enabled":      hclspec.NewAttr("enabled", "bool", false),
		"selinuxlabel": hclspec.NewAttr("selinuxlabel", "string", false),
	})),
	"allow_privileged":       hclspec.NewAttr("allow_privileged", "bool", false),
	"allow_caps":             withDefault("allow_caps", "list(string)", capabilities.HCLSpecLiteral),
	"pids_limit":             hclspec.NewAttr("pids_limit", "number", false),
	"extra_labels":           hclspec.NewAttr("extra_labels", "list(string)", false),
	"disable_log_collection": hclspec.NewAttr("disable_log_collection", "bool", false),
	"image_pull_timeout":     withDefault("image_pull_timeout", "string", `"5m"`),
	"pull_activity_timeout":  withDefault("pull_activity_timeout", "string", `"2m"`),
	"infra_image":            withDefault("infra_image", "string", `"registry.k8s.io/pause:3.10"`),
	"logging": hclspec.NewDefault(
		hclspec.NewBlock("logging", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"type":   withDefault("type", "string", `"json-file"`),
			"config": hclspec.NewAttr("config", "list(map(string))", false),
		})),
		hclspec.NewLiteral(`{ type = "json-file", config = [{ max-file = "2", max-size = "2m" }] }`)),
	"gc": hclspec.NewDefault(
		hclspec.NewBlock("gc", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"container": withDefault("container", "bool", "true"),
			"dangling_containers": hclspec.NewDefault(
				hclspec.NewBlock("dangling_containers", false, hclspec.NewObject(map[string]*hclspec.Spec{
					"enabled":        withDefault("enabled", "bool", "true"),
					"dry_run":        withDefault("dry_run", "bool", "false"),
					"period":         withDefault("period", "string", `"5m"`),
					"creation_grace": withDefault("creation_grace", "string", `"5m"`),
				})),
				hclspec.NewLiteral(danglingDefaults)),
		})),
		hclspec.NewLiteral(`{ container = true, dangling_containers = `+danglingDefaults+` }`)),
	"cache": hclspec.NewDefault(
		hclspec.NewBlock("cache", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"dir":      withDefault("dir", "string", `"`+cache.DefaultDir+`"`),
			"max_size": withDefault("max_size", "string", `"`+cacheDefaultSize+`"`),
		})),
		hclspec.NewLiteral(`{ dir = "`+cache.DefaultDir+`", max_size = "`+cacheDefaultSize+`" }`)),
	"snapshot": hclspec.NewDefault(
		hclspec.NewBlock("snapshot", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"store":                  withDefault("store", "string", `"`+store.DefaultDir+`"`),
			"allow_stores":           hclspec.NewAttr("allow_stores", "list(string)", false),
			"allow_untrusted_stores": hclspec.NewAttr("allow_untrusted_stores", "bool", false),
			"policy":                 withDefault("policy", "string", `"if_present"`),
			"memory":                 withDefault("memory", "string", `"auto"`),
			"timeout":                withDefault("timeout", "string", `"60s"`),
		})),
		hclspec.NewLiteral(`{ store = "`+store.DefaultDir+`", policy = "if_present", memory = "auto", timeout = "60s" }`)),
})

const (
	danglingDefaults = `{ enabled = true, dry_run = false, period = "5m", creation_grace = "5m" }`
	cacheDefaultSize = "20GiB"
)

// parseConfig decodes and checks the plugin's configuration. Its errors name the attribute, the value and what to set.
func parseConfig(encoded []byte) (settings, error) {
	var s settings
	if len(encoded) > 0 {
		if err := base.MsgPackDecode(encoded, &s.pluginConfig); err != nil {
			return settings{}, fmt.Errorf("plugin configuration: %w", err)
		}
	}
	for _, d := range []struct {
		name, value string
		into        *time.Duration
	}{
		{"image_pull_timeout", s.ImagePullTimeout, &s.imagePullTimeout},
		{"pull_activity_timeout", s.PullActivityTimeout, &s.pullActivityTimeout},
		{"gc.dangling_containers.period", s.GC.DanglingContainers.Period, &s.sweepPeriod},
		{"gc.dangling_containers.creation_grace", s.GC.DanglingContainers.CreationGrace, &s.creationGrace},
		{"snapshot.timeout", s.Snapshot.Timeout, &s.snapshotTimeout},
	} {
		var err error
		if *d.into, err = parseDuration(d.name, d.value); err != nil {
			return settings{}, err
		}
	}
	var err error
	if s.cacheMaxBytes, err = units.RAMInBytes(s.Cache.MaxSize); err != nil {
		return settings{}, fmt.Errorf("cache.max_size = %q: want a size such as \"20GiB\": %w", s.Cache.MaxSize, err)
	}
	address, err := canonicalStore(s.Snapshot.Store)
	if err != nil {
		return settings{}, fmt.Errorf("snapshot.store = %q: %w", s.Snapshot.Store, err)
	}
	s.Snapshot.Store = address
	if s.allowedStores, err = parseAllowStores(s.Snapshot.AllowStores); err != nil {
		return settings{}, err
	}
	if _, err := parsePolicy("snapshot.policy", s.Snapshot.Policy); err != nil {
		return settings{}, err
	}
	if _, err := parseMemory("snapshot.memory", s.Snapshot.Memory); err != nil {
		return settings{}, err
	}
	return s, nil
}

// withDefault is an optional attribute with a default, an HCL literal.
func withDefault(name, kind, literal string) *hclspec.Spec {
	return hclspec.NewDefault(hclspec.NewAttr(name, kind, false), hclspec.NewLiteral(literal))
}

func parseDuration(name, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s = %q: want a duration above zero, such as \"90s\" or \"5m\"", name, value)
	}
	return d, nil
}

func parsePolicy(name, value string) (restore.Policy, error) {
	switch p := restore.Policy(value); p {
	case restore.PolicyNever, restore.PolicyIfPresent, restore.PolicyAlways:
		return p, nil
	}
	return "", fmt.Errorf("%s = %q: want %q, %q or %q", name, value, restore.PolicyNever, restore.PolicyIfPresent, restore.PolicyAlways)
}

func parseMemory(name, value string) (restore.Memory, error) {
	switch m := restore.Memory(value); m {
	case restore.MemoryLazy, restore.MemoryEager, restore.MemoryAuto:
		return m, nil
	}
	return "", fmt.Errorf("%s = %q: want %q, %q or %q", name, value, restore.MemoryLazy, restore.MemoryEager, restore.MemoryAuto)
}
