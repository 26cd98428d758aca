package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/internal/rundir"
	"github.com/criu-docker/criu-docker/shared/owned"
)

// DefaultRunDir is where the state of containers under way lives; it is gone after a reboot, as they are.
const DefaultRunDir = rundir.Path

// DefaultRequestDir is where the requests of DefaultRunDir live. They last as long as their containers do, over reboots too.
const DefaultRequestDir = "/var/lib/criu-docker/requests"

// DefaultTimeout bounds one restore, from the release of the clone to its first instruction.
const DefaultTimeout = 60 * time.Second

// ErrUnreadable is returned for a request that is damaged.
var ErrUnreadable = errors.New("it can't be read")

// Kind says what is asked of the runtime for a container.
type Kind string

const (
	// KindDonor boots the container as usual, but with its network namespace by path, and writes its checkpoint to
	// Request.CheckpointDir.
	KindDonor Kind = "donor"
	// KindClone restores the container from Request.CheckpointDir at every start.
	KindClone Kind = "clone"
)

// Request tells the runtime what to do with one container. It is written between the container's creation and its start, and
// stays as it is while the container exists, so that a restart is hot too.
type Request struct {
	Kind Kind `json:"kind"`
	// Engine is the address of the engine that the container belongs to.
	Engine string `json:"engine"`
	// CheckpointDir holds CRIU's images. For a donor it exists and is empty. For a clone it is the clone's own directory
	// (hard links to the cache, its hostname already written into it).
	CheckpointDir string `json:"checkpoint_dir"`
	// RootfsDelta is an uncompressed OCI layer that is applied to the clone's root file system before every restore; ""
	// if none.
	RootfsDelta string `json:"rootfs_delta,omitempty"`
	// MountFiles is an archive of the files of mounts (package mountfiles). For a donor it is written when it is frozen, if there is anything
	// to keep. For a clone it is what every start places where the clone's mounts lack it; "" if there is nothing.
	MountFiles string `json:"mount_files,omitempty"`
	// Lazy lets the clone run while its memory is being filled in by a page server.
	Lazy bool `json:"lazy,omitempty"`
	// Source, for a lazy restore, is where the page server gets what the page images lack; nil if they are whole.
	Source *Source `json:"source,omitempty"`
	// Record, for a lazy restore, is a file that gets the pages that the app needs, in this order; nothing else is filled in.
	Record string `json:"record,omitempty"`
	// NetworkFirst gives the clone its files, sockets and memory only when the engine has wired the network. Otherwise the
	// two go on at the same time, which is faster; connections are refused meanwhile.
	NetworkFirst bool `json:"network_first,omitempty"`
	// ColdBoot lets the container boot cold where it can't be restored again.
	ColdBoot bool `json:"cold_boot,omitempty"`
	// Snapshot is the digest of the manifest that a clone was made of.
	Snapshot string `json:"snapshot,omitempty"`
	// Frozen is when it was made.
	Frozen time.Time `json:"frozen,omitzero"`
	// AfterRestore are run in a clone at each of its starts, in their order, before the start is done.
	AfterRestore []hook.Hook `json:"after_restore,omitempty"`
	// Host is the host that the snapshot was made on. After a reboot, this one may not be fit for it any more.
	Host criu.Host `json:"host,omitzero"`
	// Bound are sockets that a clone brings with their addresses. It is restored only where it has all of these.
	Bound []criu.Socket `json:"bound,omitempty"`
	// Addresses are those that the donor had in its own network. In the clone, sockets get its own in their place, where it is known.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// OOMScore is the oom_score_adj that the donor was configured with.
	OOMScore int `json:"oom_score_adj,omitempty"`
	// Options are those of the snapshot.
	Options criu.Options `json:"options"`
	// Timeout bounds one restore; 0 means DefaultTimeout.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
}

// Source is where the page server of a clone finds its snapshot.
type Source struct {
	Cache    string `json:"cache"`    // directory
	Manifest string `json:"manifest"` // digest
	// State is a file that tells how far the page images of the clone are, see FillingWhole; "" if they were whole when it was made.
	State string `json:"state,omitempty"`
	// Store is the address of the store that has what the cache does not have yet.
	Store string `json:"store"`
	// Env are those variables of the request's maker that decide how the store is reached: a runtime has its engine's.
	Env []string `json:"env,omitempty"`
}

// Report is what the runtime did for a container. It outlives the container until Forget.
type Report struct {
	// UpperDir is the directory that holds a donor's container layer (overlayfs upperdir).
	UpperDir string `json:"upper_dir,omitempty"`
	// GuardRegions is true if a donor's processes may make guard regions (madvise(2), MADV_GUARD_INSTALL) where the kernel has them.
	GuardRegions bool `json:"guard_regions,omitempty"`
	// KeptFiles are what of the donor's mounts is in the archive Request.MountFiles, and NotKept is a sentence for what is not.
	KeptFiles []criu.MountFile `json:"kept_files,omitempty"`
	NotKept   []string         `json:"not_kept,omitempty"`
	// Steps of the last start, in order.
	Steps []Step `json:"steps,omitempty"`
	// Failure is set when the last freeze or restore failed in CRIU.
	Failure *criu.Failure `json:"failure,omitempty"`
	// Error is why the last create, start or checkpoint failed; the engine puts words of its own around it.
	Error string `json:"error,omitempty"`
	// Lost is why a running clone was killed before all of its memory was there; "" if it was not.
	Lost string `json:"lost,omitempty"`
	// Cold is why the container was booted cold when it was started again; "" if it was restored.
	Cold string `json:"cold,omitempty"`
	// Engine is the address of the engine of a container that was booted cold.
	Engine string `json:"engine,omitempty"`
}

// Step is a timed part of a start.
type Step struct {
	Name    string        `json:"name"`
	Start   time.Time     `json:"start"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// RunDir is the directory through which requests reach the runtime and reports come back; normally DefaultRunDir.
type RunDir string

// WriteRequest tells the runtime what to do with a container at its starts. It does not wait for the disk: a request that did
// not get there before the machine went down is one that is gone, and the container's annotations tell what that means.
func (d RunDir) WriteRequest(containerID string, r Request) error {
	_, err := requestKind.Make(d.requestDir())
	var b []byte
	if err == nil {
		b, err = json.Marshal(r)
	}
	if err == nil {
		err = os.WriteFile(d.requestFile(containerID)+unfinished, b, 0o600)
	}
	if err == nil {
		err = os.Rename(d.requestFile(containerID)+unfinished, d.requestFile(containerID))
	}
	if err != nil {
		return fmt.Errorf("request for container %.12s: %w", containerID, err)
	}
	return nil
}

// unfinished is the suffix of a request that is being written.
const unfinished = ".tmp"

// requestName matches the names of requests, whole or not.
var requestName = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9_.-]*)\.json(\` + unfinished + `)?$`)

// requestKind is that of the requests' directory. Before there were markers, it had nothing else in it.
var requestKind = owned.Kind{Name: "requests", Version: 1, Known: func(entries map[string]fs.FileMode) bool {
	for name, mode := range entries {
		if mode != 0 || !requestName.MatchString(name) {
			return false
		}
	}
	return true
}}

// ReadRequest returns a container's request; fs.ErrNotExist if it has none, and ErrUnreadable for what is none.
func (d RunDir) ReadRequest(containerID string) (Request, error) {
	var r Request
	err := readJSON(d.requestFile(containerID), &r)
	return r, err
}

// Requests returns the ids of the containers that have a request, or a part of one.
func (d RunDir) Requests() ([]string, error) {
	own, err := requestKind.Open(d.requestDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ids, err := own.Files("", requestName)
	for i, name := range ids {
		ids[i] = requestName.FindStringSubmatch(name)[1]
	}
	return slices.Compact(ids), err
}

// ReadReport returns what the runtime did for a container; an empty report if it did nothing yet.
func (d RunDir) ReadReport(containerID string) (Report, error) {
	var r Report
	err := readJSON(filepath.Join(d.stateDir(containerID), reportName), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, nil
	}
	return r, err
}

// BootedCold returns the ids of the containers of an engine that were clones once and were booted cold, since there was no
// request any more.
func (d RunDir) BootedCold(engine string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(string(d), containersDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if r, err := d.ReadReport(e.Name()); err == nil && r.Engine == engine {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Forget removes a container's request, report and logs. The container must be gone, or it becomes an ordinary one. The
// request goes last: after a kill in between, the container is found again.
func (d RunDir) Forget(containerID string) error {
	c := container{run: d, id: containerID}
	if err := errors.Join(c.removePlaced(), c.removeNetns(), c.removeState()); err != nil {
		return fmt.Errorf("forget container %.12s: %w", containerID, err)
	}
	for _, file := range []string{d.attendanceFile(containerID), d.requestFile(containerID) + unfinished, d.requestFile(containerID)} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget container %.12s: %w", containerID, err)
		}
	}
	return nil
}

// requestDir is inside of any other run directory than the default one, which only tests have.
func (d RunDir) requestDir() string {
	if d == DefaultRunDir {
		return DefaultRequestDir
	}
	return filepath.Join(string(d), "requests")
}

func (d RunDir) requestFile(id string) string { return filepath.Join(d.requestDir(), id+".json") }

func (d RunDir) stateDir(id string) string {
	return filepath.Join(string(d), containersDir, id)
}

// Directories in a run directory.
const (
	containersDir = "containers" // ID/: state of a container
	netnsDir      = "netns"      // ID: its network namespace
	attendedDir   = "attended"   // ID.json: its next start has a caller that sees it through
	placedDir     = "placed"     // ID.json: what a start under way has placed on its mounts
	queueDir      = "queue"      // NAME: a queue
	lossesDir     = "losses"     // HEX: why the last clone of a snapshot was lost
	shimsDir      = "shim"       // criu: what runc takes for CRIU
)

// makeSub makes a directory in the run directory, which it makes too if needed.
func (d RunDir) makeSub(elem ...string) error {
	own, err := rundir.Make(string(d))
	if err == nil {
		_, err = own.Sub(elem...)
	}
	return err
}

func writeJSON(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, b, 0o600)
}

func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w: %w", file, ErrUnreadable, err)
	}
	return nil
}
