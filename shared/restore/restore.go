// Package restore starts containers: from a snapshot when a fitting one exists, cold when not. It is the one place
// where that policy lives.
package restore

import (
	"errors"
	"time"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/store"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

// Policy says what to do about snapshots.
type Policy string

const (
	// PolicyNever boots cold.
	PolicyNever Policy = "never"
	// PolicyIfPresent restores when a fitting snapshot exists and boots cold when not, or when anything fails before the
	// clone is released.
	PolicyIfPresent Policy = "if_present"
	// PolicyAlways fails where PolicyIfPresent would boot cold.
	PolicyAlways Policy = "always"
)

// Memory says how a clone's memory comes back.
type Memory string

const (
	// MemoryAuto is lazy where there is enough memory for that to pay, and the kernel can do it. The default.
	MemoryAuto Memory = "auto"
	// MemoryLazy lets the app run while its memory is still being filled in, and while the snapshot is still being fetched.
	MemoryLazy Memory = "lazy"
	// MemoryEager fetches the whole snapshot and fills in all memory before the app runs.
	MemoryEager Memory = "eager"
)

// DefaultTimeout bounds the snapshot's part of a start: look-up, fetch, restore. What a start waits for others is not part of it.
const DefaultTimeout = 60 * time.Second

// ErrNoSnapshot means that no fitting snapshot exists.
var ErrNoSnapshot = errors.New("no fitting snapshot")

// Options say what to start.
type Options struct {
	Spec   engine.Spec // Config.Hostname is the clone's hostname
	Policy Policy
	// Ref names a snapshot: a ref as `criu-docker ls` prints it, or a manifest digest. "" looks one up by image and configuration.
	Ref     string
	Store   store.Store   // may be nil with PolicyNever
	Cache   *cache.Cache  // may be nil with PolicyNever
	Memory  Memory        // "" means MemoryAuto
	Timeout time.Duration // 0 means DefaultTimeout
	// AfterRestore, unless it is nil, are run in place of the snapshot's own hooks.
	AfterRestore []hook.Hook
	// OnEvent, if set, is told of every step and of the reason for a cold boot, in sentences fit for users; it must not block.
	OnEvent func(Event)
	// Timeline, if set, collects what the steps consist of. Trace adds what others did meanwhile.
	Timeline *timeline.Recorder
}

// Event is one step of a start.
type Event struct {
	Step    string // "queue", "resolve", "memory", "fetch", "create", "restore", "cold boot"
	Message string
	Start   time.Time
	Elapsed time.Duration
}

// Start tells hot from cold.
type Start string

// The two ways a container can have been started.
const (
	Hot  Start = "hot"
	Cold Start = "cold"
)

// Result is a running container.
type Result struct {
	ContainerID string
	Start       Start
	Reason      string // why cold; "" when hot
	Ref         string // the snapshot's ref; "" when cold
	Steps       []Event
	Report      ociruntime.Report // what the runtime did; empty when cold
}
