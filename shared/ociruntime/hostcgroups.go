package ociruntime

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/moby/sys/mountinfo"
)

// hostCgroups are the hierarchies of cgroup v1 on this host, for a container that sees its own part of each.
type hostCgroups struct {
	destination string // where the container has them; "" if it has none
	mounts      []*mountinfo.Info
}

func (b *bundle) hostCgroups(host []*mountinfo.Info) hostCgroups {
	var h hostCgroups
	for _, m := range b.spec.Mounts {
		if m.Type == "cgroup" {
			h.destination = path.Clean(m.Destination)
		}
	}
	for _, m := range host {
		if m.FSType == "cgroup" {
			h.mounts = append(h.mounts, m)
		}
	}
	return h
}

// correct has CRIU mount the clone's own cgroups where the container looks for them. runc names those that it is in itself, which
// are the engine's: a container would see all others, and the limits of none.
func (h hostCgroups) correct(opts *rpc.CriuOpts) {
	if h.destination == "" {
		return
	}
	own := map[string]string{}
	for _, root := range opts.CgRoot {
		own[root.GetCtrl()] = root.GetPath()
	}
	for _, e := range opts.ExtMnt {
		if path.Dir(e.GetKey()) != h.destination {
			continue
		}
		for _, m := range h.mounts {
			if e.GetVal() != m.Mountpoint && !strings.HasPrefix(e.GetVal(), m.Mountpoint+"/") {
				continue
			}
			for _, controller := range strings.Split(m.VFSOptions, ",") {
				if cgroup, ok := own[controller]; ok {
					if rel, err := filepath.Rel(m.Root, cgroup); err == nil {
						val := filepath.Join(m.Mountpoint, rel)
						e.Val = &val
					}
				}
			}
		}
	}
}
