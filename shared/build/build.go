// Package build makes snapshots: it boots a donor, waits until it is ready, warms it up, freezes it, and packs and
// publishes the result.
package build

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// DefaultDir is where donors' checkpoints are written before they are packed, unless Options.Dir says otherwise.
const DefaultDir = "/var/lib/criu-docker/build"

// Sentinels that callers branch on.
var (
	ErrImageMoved = errors.New("the image's name stands for another image now")
	ErrNotReady   = errors.New("the container did not become ready")
	// ErrNotRestorable is that what was frozen could not be restored. It was not published.
	ErrNotRestorable = errors.New("it was not published, since no container could be started from it")
)

// Options say what to build.
type Options struct {
	Spec engine.Spec // the donor, exactly as the clones will be started
	// ImageID, if set, is the id that Spec.Config.Image must stand for; ErrImageMoved otherwise.
	ImageID digest.Digest
	Ready   Probe
	Warmup  []WarmupRequest
	// Hooks tell the donor that it is to be frozen, and clones that they are clones.
	Hooks      hook.Hooks
	Checkpoint criu.Options
	// CPU is what the donor's libraries are held to, so that clones can run on any processor that has it; "" is this machine's.
	CPU   criu.Baseline
	Store store.Store
	// Nomad adds the mounts and variables that Nomad gives every task (/alloc, /local, /secrets).
	Nomad bool
	// Pull says how an image that the engine lacks is fetched.
	Pull engine.PullOptions
	// Force publishes a new snapshot even though the store has one for this image and configuration; it replaces that
	// one in place.
	Force bool
	// NoProfile leaves the profile out: a restore of the snapshot, before it is published, that shows that it can be restored and
	// records which memory the app needs first. A clone then answers what the donor answered; what else it does, to a queue say, it
	// does once more.
	NoProfile bool
	// Dir is the directory for unfinished work, on a disk that holds the app's memory; "" means DefaultDir.
	Dir string
	// OnEvent, if set, is told of every step; it must not block.
	OnEvent func(Event)
}

// ProbeType is how readiness is found out.
type ProbeType string

// The kinds of probes.
const (
	ProbeHTTP ProbeType = "http"
	ProbeTCP  ProbeType = "tcp"
	ProbeExec ProbeType = "exec"
	ProbeLog  ProbeType = "log"
)

// Probe tells when the donor is ready to be frozen.
type Probe struct {
	Type     ProbeType
	Port     int           // http, tcp: container port
	Path     string        // http: default "/"
	Status   int           // http: expected status; 0 means any 2xx or 3xx
	Command  []string      // exec: ready when it exits 0
	Pattern  string        // log: regular expression that a line of output must match
	Interval time.Duration // between attempts; 0 means 100 ms
	Timeout  time.Duration // for the whole boot; 0 means 5 min
}

// WarmupRequest is an HTTP request that is sent to the ready donor, so that what it loads is in the snapshot.
type WarmupRequest struct {
	Method string // default GET
	Port   int    // default: the probe's
	Path   string
	Header map[string]string
	Body   string
	Status int // expected; 0 means any below 500
	Count  int // 0 means 1
}

// Event reports progress: a step's beginning (Done false), advance, or end.
type Event struct {
	Step    string // "image", "queue", "create", "boot", "warmup", "before_freeze", "freeze", "rootfs", "profile", "publish"
	Message string
	Current int64 // bytes, where the step counts them
	Total   int64
	Done    bool
	Elapsed time.Duration
}

// Result is a published snapshot.
type Result struct {
	Ref      snapshot.Ref
	Manifest ocispec.Descriptor
	Config   snapshot.Config
	// Existed is true when the store had this snapshot already and nothing was built.
	Existed bool
	// Warnings are what the user is to know of a build that succeeded, one sentence each: what clones will lack, and what
	// could not be cleaned up.
	Warnings []string
}
