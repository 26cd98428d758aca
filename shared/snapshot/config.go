// Package snapshot defines the artefact that criu-docker publishes: an OCI image manifest whose config says
// what was frozen, and whose layers hold CRIU's small images, the memory pages in independently compressed frames,
// and what the donor changed in its container layer. docs/format.md states the format exactly.
package snapshot

import (
	"net/netip"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
)

// Config is the JSON config blob of a snapshot: everything that a reviewer asks about it and everything that
// decides whether a container may be started from it. It never holds the value of an environment variable.
type Config struct {
	Created    time.Time       `json:"created"`
	Image      Image           `json:"image"`
	Run        RunConfig       `json:"run"`
	Hostname   string          `json:"hostname"`                // the donor's; every clone gets its own
	OOMScore   int             `json:"oom_score_adj,omitempty"` // that the donor was configured with; every clone gets its own
	Host       Host            `json:"host"`
	Checkpoint criu.Options    `json:"checkpoint"`
	Processes  []criu.Process  `json:"processes"`
	Files      []criu.OpenFile `json:"files,omitempty"`
	Sockets    []criu.Socket   `json:"sockets,omitempty"`
	Addresses  []netip.Addr    `json:"addresses,omitempty"` // the donor's own, in its own network or another container's
	Mounts     []criu.Mount    `json:"mounts,omitempty"`    // all of them; Run.Mounts are those that were asked for
	// NoLazy is why the memory can't be restored lazily, as the build has found; "" if it can, or if the build did not look.
	NoLazy string `json:"no_lazy,omitempty"`
	// GuardRegions is true if the app may make guard regions (madvise(2), MADV_GUARD_INSTALL), which no page server gets to know of: a
	// kernel that has them can't restore it lazily.
	GuardRegions bool `json:"guard_regions,omitempty"`
	// LargestMapping is how many bytes the largest private mapping of a process has, of which there need not be any memory.
	LargestMapping int64 `json:"largest_mapping,omitempty"`
	// Generators are the runtimes and libraries in the app that have random generators of their own, as the build has found: "OpenSSL",
	// "Ruby". All clones have their state, until a hook seeds them anew.
	Generators []string `json:"generators,omitempty"`
	// MountFiles are what the app held on mounts from outside, which clones' mounts must have.
	MountFiles []criu.MountFile `json:"mount_files,omitempty"`
	// KeptFiles are what of them, and of what else a restore needs there, is in the snapshot: starts place it where a mount lacks it.
	KeptFiles []criu.MountFile `json:"kept_files,omitempty"`
	// Losses are what clones lack without a word from CRIU, a sentence each; nil if the build did not record them.
	Losses *[]string `json:"losses,omitempty"`
	// Hooks are how the app is told that it is about to be frozen, and that it has been restored.
	Hooks   hook.Hooks `json:"hooks,omitzero"`
	Sizes   Sizes      `json:"sizes"`
	Timings []Timing   `json:"timings"`
}

// Image names the container image that the donor was booted from.
type Image struct {
	Reference  string        `json:"reference"`             // as asked for, for example "redmine:5.0"
	ID         digest.Digest `json:"id"`                    // the engine's image id
	RepoDigest string        `json:"repo_digest,omitempty"` // name@sha256:… when the image came from a registry
	Arch       string        `json:"architecture"`          // GOARCH, for example "amd64"
}

// RunConfig is the effective configuration that a container's process was started with: the request, completed
// by the image's defaults. Two containers may share a snapshot only if their RunConfigs are equal; what may differ
// between clones (hostname, published ports, resource limits, mount sources, labels, logging) is not in it.
type RunConfig struct {
	Args       []string          `json:"args"`              // entrypoint followed by command
	Env        map[string]string `json:"env"`               // name → HashEnv of the value; per-allocation variables left out
	User       string            `json:"user,omitempty"`    // as in the image or the request: "uid[:gid]" or names
	WorkingDir string            `json:"workdir,omitempty"` // "" means "/"
	Mounts     []Mount           `json:"mounts,omitempty"`  // sorted by destination
	Ports      []string          `json:"ports,omitempty"`   // exposed container ports, "3000/tcp", sorted; informative
	TTY        bool              `json:"tty,omitempty"`
	Stdin      bool              `json:"stdin,omitempty"`      // standard input is open
	Domainname string            `json:"domainname,omitempty"` // NIS domain name; "" is the kernel's default
	Security   Security          `json:"security"`
}

// Mount is a mount point inside the container; its source may differ from clone to clone.
type Mount struct {
	Destination string `json:"destination"`
	Type        string `json:"type"` // "bind" (volumes too: CRIU can't tell them apart) or "tmpfs"
	ReadOnly    bool   `json:"read_only,omitempty"`
	// Directory is how the directory of a tmpfs looks, "mode=700,uid=5", sorted; "" is the engine's default. The app may hold it open.
	Directory string `json:"directory,omitempty"`
}

// Security is what CRIU brings back from the frozen process rather than takes from the clone's own request,
// so that it must be equal in both.
type Security struct {
	Privileged     bool              `json:"privileged,omitempty"`
	Capabilities   []string          `json:"capabilities,omitempty"` // the bounding set, sorted
	SecurityOpt    []string          `json:"security_opt,omitempty"`
	ReadonlyRootfs bool              `json:"readonly_rootfs,omitempty"`
	IpcMode        string            `json:"ipc_mode,omitempty"`
	PidMode        string            `json:"pid_mode,omitempty"`
	UTSMode        string            `json:"uts_mode,omitempty"`
	UsernsMode     string            `json:"userns_mode,omitempty"`
	CgroupnsMode   string            `json:"cgroupns_mode,omitempty"`
	GroupAdd       []string          `json:"group_add,omitempty"`
	Ulimits        []string          `json:"ulimits,omitempty"` // "nofile=1024:2048", sorted
	Sysctls        map[string]string `json:"sysctls,omitempty"`
	Init           bool              `json:"init,omitempty"`
	NoNetwork      bool              `json:"network_disabled,omitempty"` // which spares the engine's files in /etc, too
	Devices        []string          `json:"devices,omitempty"`          // device nodes and requests for devices, sorted
	MaskedPaths    *[]string         `json:"masked_paths,omitempty"`     // sorted; nil are the engine's default
	ReadonlyPaths  *[]string         `json:"readonly_paths,omitempty"`   // sorted; nil are the engine's default
}

// Host is the machine and the software that froze the donor; restore.Fit compares it with the node at hand.
type Host struct {
	criu.Host        // kernel, CRIU, processor
	Runc      string `json:"runc"`
	Engine    string `json:"engine"`
}

// Sizes are in bytes.
type Sizes struct {
	Memory     int64 `json:"memory"`     // page images, uncompressed
	Checkpoint int64 `json:"checkpoint"` // CRIU's other images, uncompressed
	Rootfs     int64 `json:"rootfs"`     // container-layer delta, uncompressed
	// MountFiles are the archive of the files of mounts, uncompressed.
	MountFiles int64 `json:"mount_files,omitempty"`
	Packed     int64 `json:"packed"` // all layers as stored
}

// Unpacked is what a snapshot takes on a node's disk.
func (s Sizes) Unpacked() int64 { return s.Memory + s.Checkpoint + s.Rootfs + s.MountFiles }

// Timing is how long one step of the build took.
type Timing struct {
	Step    string        `json:"step"` // "boot", "warmup", "freeze", "pack", …
	Elapsed time.Duration `json:"elapsed_ns"`
}
