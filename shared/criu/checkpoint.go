package criu

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/crit"
)

// Checkpoint is what a directory of CRIU's images holds.
type Checkpoint struct {
	Processes []Process // the roots of the process tree; one, for a container
	Files     []OpenFile
	Sockets   []Socket
	Mounts    []Mount // by destination; none if the container shared its host's
	// Established is true when a TCP connection was open. Without one the network need not be locked at restore.
	Established bool
	Stats       DumpStats
}

// Process is one node of the frozen process tree.
type Process struct {
	PID      uint32    `json:"pid"` // inside the container
	Command  string    `json:"command"`
	RSS      int64     `json:"rss_bytes"` // frozen pages; those of files that can be read again are not among them
	Children []Process `json:"children,omitempty"`
}

// OpenFile is a descriptor, other than a socket, that was open when the donor was frozen.
type OpenFile struct {
	PID  uint32 `json:"pid"`
	FD   string `json:"fd"`   // number, or "cwd", or "root"
	Type string `json:"type"` // as CRIU calls it, in small letters: "reg", "pipe", "tty", "eventpoll", …
	Path string `json:"path"`
}

// Socket is a socket that was open when the donor was frozen.
type Socket struct {
	PID      uint32 `json:"pid"`
	Protocol string `json:"protocol"`         // "tcp", "udp", "unix", "netlink", …
	State    string `json:"state"`            // "LISTEN", "ESTABLISHED", …
	Source   string `json:"source,omitempty"` // HOST:PORT, or a unix socket's path; abstract ones begin with "@"
	Dest     string `json:"destination,omitempty"`
	Device   string `json:"device,omitempty"` // that it is bound to
}

// SourceAddr returns the IP address that the socket is bound to, without its zone and a mapped IPv4 address as such; false if
// it is bound to none.
func (s Socket) SourceAddr() (netip.Addr, bool) {
	if s.Protocol == "unix" {
		return netip.Addr{}, false
	}
	source, err := netip.ParseAddrPort(s.Source)
	if err != nil {
		return netip.Addr{}, false
	}
	return source.Addr().WithZone("").Unmap(), true
}

// DestAddr returns the IP address that the socket is connected to, as SourceAddr does; false if it is connected to none.
func (s Socket) DestAddr() (netip.Addr, bool) {
	dest, err := netip.ParseAddrPort(s.Dest)
	if s.Protocol == "unix" || err != nil {
		return netip.Addr{}, false
	}
	return dest.Addr().WithZone("").Unmap(), true
}

// Connection reports whether the socket is one end of a TCP connection: neither listening nor closed.
func (s Socket) Connection() bool {
	return s.Protocol == "tcp" && s.State != "LISTEN" && s.State != "CLOSE"
}

// Mount is a mount that the frozen processes saw.
type Mount struct {
	Destination string `json:"destination"`
	Type        string `json:"type,omitempty"`      // of the file system, in small letters; "" for some external ones
	External    bool   `json:"external,omitempty"`  // it comes from outside, so that every clone brings its own
	ReadOnly    bool   `json:"read_only,omitempty"` // by the mount's own flags
}

// DumpStats is what CRIU measured while it froze the donor.
type DumpStats struct {
	Freezing     time.Duration // until every process had stopped
	Frozen       time.Duration // for which the processes stood still
	MemoryDump   time.Duration
	MemoryWrite  time.Duration
	PagesScanned uint64
	PagesWritten uint64 // of 4096 bytes
}

// Inspect reads what was frozen from CRIU's images in dir; the memory pages themselves are not needed. A missing
// stats-dump leaves Stats zero; any other missing image is an error that wraps fs.ErrNotExist.
func Inspect(dir string) (*Checkpoint, error) {
	images := &imageDir{path: dir}
	tasks, err := images.tasks()
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	var ckpt Checkpoint
	for _, pid := range slices.Sorted(maps.Keys(tasks)) {
		if err := images.descriptors(tasks[pid], &ckpt); err != nil {
			return nil, fmt.Errorf("checkpoint %s: process %d: %w", dir, pid, err)
		}
	}
	ckpt.Processes = children(tasks, 0)
	if ckpt.Mounts, err = images.mounts(); err != nil {
		return nil, fmt.Errorf("checkpoint %s: mounts: %w", dir, err)
	}
	if ckpt.Stats, err = dumpStats(dir); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return &ckpt, nil
}

// children returns the processes below parent, by pid, with theirs below them.
func children(tasks map[uint32]task, parent uint32) []Process {
	var list []Process
	for pid, t := range tasks {
		if t.parent == parent {
			list = append(list, Process{PID: pid, Command: t.command, RSS: t.rss, Children: children(tasks, pid)})
		}
	}
	slices.SortFunc(list, func(a, b Process) int { return cmp.Compare(a.PID, b.PID) })
	return list
}

func dumpStats(dir string) (DumpStats, error) {
	stats, err := crit.GetDumpStats(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return DumpStats{}, nil
	}
	if err != nil {
		return DumpStats{}, fmt.Errorf("%s: %w", crit.StatsDump, err)
	}
	return DumpStats{
		Freezing:     time.Duration(stats.GetFreezingTime()) * time.Microsecond,
		Frozen:       time.Duration(stats.GetFrozenTime()) * time.Microsecond,
		MemoryDump:   time.Duration(stats.GetMemdumpTime()) * time.Microsecond,
		MemoryWrite:  time.Duration(stats.GetMemwriteTime()) * time.Microsecond,
		PagesScanned: stats.GetPagesScanned() + stats.GetShpagesScanned(),
		PagesWritten: stats.GetPagesWritten() + stats.GetShpagesWritten(),
	}, nil
}
