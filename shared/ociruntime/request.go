package ociruntime

import (
	"time"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// DefaultRunDir is where requests and the state of containers under way live; it is gone after a reboot, as they are.
const DefaultRunDir = "/run/criu-docker"

// Kind says what is asked of the runtime for a container.
type Kind string

const (
	// KindDonor boots the container as usual, but with its network namespace by path, and writes its checkpoint to Request.CheckpointDir.
	KindDonor Kind = "donor"
	// KindClone restores the container from Request.CheckpointDir at every start.
	KindClone Kind = "clone"
)

// Request tells the runtime what to do with one container. Whoever creates the container writes it to
// RunDir/requests/CONTAINERID.json between the container's creation and its start; it stays while the container exists.
type Request struct {
	Kind Kind `json:"kind"`
	// CheckpointDir holds CRIU's images. For a donor it exists and is empty. For a clone it is the clone's own directory
	// (hard links to the cache, its hostname already written into it).
	CheckpointDir string `json:"checkpoint_dir"`
	// RootfsDelta is an uncompressed OCI layer that is applied to the clone's root file system before every restore; "" if none.
	RootfsDelta string `json:"rootfs_delta,omitempty"`
	// Options are those of the snapshot.
	Options criu.Options `json:"options"`
	// Timeout bounds one restore; 0 means DefaultTimeout.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
}

// Report is what the runtime did for a container, in RunDir/containers/CONTAINERID/report.json.
type Report struct {
	// UpperDir is the directory that holds a donor's container layer (overlayfs upperdir).
	UpperDir string `json:"upper_dir,omitempty"`
	// Steps of the last start, in order.
	Steps []Step `json:"steps,omitempty"`
	// Failure is set when the last freeze or restore failed.
	Failure *criu.Failure `json:"failure,omitempty"`
}

// Step is a timed part of a start.
type Step struct {
	Name    string        `json:"name"`
	Start   time.Time     `json:"start"`
	Elapsed time.Duration `json:"elapsed_ns"`
}
