// Package criu knows CRIU's side of the work: its options, its image files, its log, and what it needs of a host.
package criu

import (
	"fmt"
	"strings"
)

// TCP says what becomes of the TCP connections that are open when a donor is frozen.
type TCP string

const (
	// TCPClose closes them in the clone, so that the app sees an error and reconnects. The default.
	TCPClose TCP = "close"
	// TCPEstablished keeps them: only one clone, with the donor's address and after the donor is gone, can go on with them.
	TCPEstablished TCP = "established"
)

// Options are the choices that a build makes for a snapshot; freezing and every restore must use the same.
type Options struct {
	TCP          TCP    `json:"tcp"`
	FileLocks    bool   `json:"file_locks"`
	ExtUnixSk    bool   `json:"ext_unix_sk,omitempty"`    // the app talks to a unix socket outside its container
	LinkRemap    bool   `json:"link_remap,omitempty"`     // the app may hold deleted files that other names still link to
	GhostLimit   int64  `json:"ghost_limit"`              // bytes; largest deleted-but-open file that is carried along
	ManageCgroup string `json:"manage_cgroups,omitempty"` // runc's --manage-cgroups-mode; "" means soft
}

// DefaultOptions suit most apps: connections are closed, file locks and deleted files kept.
func DefaultOptions() Options {
	return Options{TCP: TCPClose, FileLocks: true, LinkRemap: true, GhostLimit: 64 << 20}
}

// ConfigFile renders the options that runc has no flag for as a CRIU configuration file (criu(8), "CONFIGURATION
// FILES"). Settings there override what runc asks for over RPC.
func (o Options) ConfigFile() string {
	var b strings.Builder
	switch o.TCP {
	case TCPEstablished:
		b.WriteString("tcp-established\n")
	default:
		// A connection that waits to be accepted is treated like one that has been: it ends.
		// The network needn't be locked for connections that end anyway. It would be at restores as well, when the engine wires it, and
		// fails on one with IPv6 since it can't announce the address.
		b.WriteString("tcp-close\nskip-in-flight\nnetwork-lock skip\n")
	}
	if o.FileLocks {
		b.WriteString("file-locks\n")
	}
	if o.ExtUnixSk {
		b.WriteString("ext-unix-sk\n")
	}
	if o.LinkRemap {
		b.WriteString("link-remap\n")
	}
	if o.GhostLimit > 0 {
		fmt.Fprintf(&b, "ghost-limit %d\n", o.GhostLimit)
	}
	return b.String()
}

// Validate reports the first option that has no meaning.
func (o Options) Validate() error {
	switch o.TCP {
	case TCPClose, TCPEstablished:
	default:
		return fmt.Errorf("tcp = %q: want %q or %q", o.TCP, TCPClose, TCPEstablished)
	}
	if o.GhostLimit < 0 {
		return fmt.Errorf("ghost_limit = %d: want a size in bytes, 0 or more", o.GhostLimit)
	}
	return nil
}
