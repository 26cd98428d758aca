package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/hashicorp/nomad/client/allocdir"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// cleanUpPeriodically removes what is not needed any more, once a period until the plugin ends. At the plugin's start it
// looks only at what containers have left that are gone: Nomad is yet to hand over the tasks that run.
func (d *Driver) cleanUpPeriodically() {
	for first := true; ; first = false {
		s := d.config()
		if eng, err := d.docker(d.ctx); err != nil {
			d.logger.Debug("clean-up is put off", "error", err)
		} else {
			d.sweep(eng)
			if s.GC.DanglingContainers.Enabled && !first {
				d.removeDangling(eng, s)
			}
		}
		select {
		case <-time.After(s.sweepPeriod):
		case <-d.ctx.Done():
			return
		}
	}
}

// sweep removes the clone directories of containers that are gone.
func (d *Driver) sweep(eng *engine.Engine) {
	c, err := d.snapshotCache()
	if err != nil {
		d.logger.Warn("clean-up of clones", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, killTimeout)
	defer cancel()
	if err := restore.Sweep(ctx, eng, c); err != nil {
		d.logger.Warn("clean-up of clones", "error", err)
	}
	if err := sweepNotes(ctx, eng); err != nil {
		d.logger.Warn("clean-up of notes on containers", "error", err)
	}
}

// sweepNotes removes the notes on containers that are gone.
func sweepNotes(ctx context.Context, eng *engine.Engine) error {
	notes := notesOf(eng)
	ids, err := notes.containers()
	errs := []error{err}
	for id := range ids {
		switch _, err := eng.Client.ContainerInspect(ctx, id); {
		case engine.IsNotFound(err):
			errs = append(errs, notes.forget(id))
		case err != nil:
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(errs...)
}

// removeDangling removes containers that a start left behind when the plugin or the engine died in its middle, and
// that Nomad therefore knows nothing of.
func (d *Driver) removeDangling(eng *engine.Engine, s settings) {
	ctx, cancel := context.WithTimeout(d.ctx, bootTimeout)
	defer cancel()
	list, err := eng.Client.ContainerList(ctx, container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("label", labelTaskID)),
	})
	if err != nil {
		d.logger.Warn("looking for dangling containers", "error", err)
		return
	}
	d.removeDanglingNetworks(ctx, eng, s)
	known := d.tasks.containers()
	for _, c := range list {
		if known[c.ID] || !d.abandoned(c) || time.Since(time.Unix(c.Created, 0)) < s.creationGrace {
			continue
		}
		if c.State == container.StateExited && !s.GC.Container {
			continue // the operator keeps what has run
		}
		log := d.logger.With("container_id", c.ID, "task_id", c.Labels[labelTaskID])
		if s.GC.DanglingContainers.DryRun {
			log.Info("a dangling container would be removed")
			continue
		}
		log.Warn("removing a dangling container")
		if err := d.remove(eng, c.ID); err != nil {
			log.Warn("removing a dangling container", "error", err)
		}
	}
}

// removeDanglingNetworks removes the containers that hold the networks of groups whose allocations are gone: Nomad asks for that when an
// allocation ends, but once, and of a plugin that is not there just then.
func (d *Driver) removeDanglingNetworks(ctx context.Context, eng *engine.Engine, s settings) {
	list, err := eng.Client.ContainerList(ctx, container.ListOptions{
		All: true, Filters: filters.NewArgs(filters.Arg("label", labelNetwork)),
	})
	if err != nil {
		d.logger.Warn("looking for dangling networks", "error", err)
		return
	}
	for _, c := range list {
		log := d.logger.With("container_id", c.ID, "alloc_id", c.Labels[labelAllocID])
		allocDir, err := notesOf(eng).network(c.ID)
		if err != nil {
			log.Warn("looking for dangling networks", "error", err)
		}
		// If no task of ours was in it, it can't be known whether anything still is.
		if allocDir == "" || !isGone(allocDir) || time.Since(time.Unix(c.Created, 0)) < s.creationGrace {
			continue
		}
		if s.GC.DanglingContainers.DryRun {
			log.Info("a dangling network would be removed")
			continue
		}
		log.Warn("removing a dangling network")
		if err = eng.Remove(ctx, c.ID); err == nil {
			err = notesOf(eng).forget(c.ID)
		}
		if err != nil {
			log.Warn("removing a dangling network", "error", err)
		}
	}
}

// isGone reports whether an allocation's directory was removed, and not only the file system with all of them unmounted.
func isGone(allocDir string) bool {
	_, err := os.Stat(allocDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Stat(filepath.Dir(allocDir))
	return err == nil
}

// remember notes whose containers are ours to judge: an engine may serve several agents.
func (d *Driver) remember(cfg *drivers.TaskConfig) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes[cfg.NodeID] = true
}

// abandoned reports whether a container that no task of this driver has may be removed: one of an agent whose tasks the
// driver runs, or one whose allocation no agent has any more.
func (d *Driver) abandoned(c container.Summary) bool {
	d.mu.Lock()
	ours := d.nodes[c.Labels[labelNodeID]]
	d.mu.Unlock()
	return ours || slices.ContainsFunc(c.Mounts, func(m container.MountPoint) bool {
		if m.Destination != allocdir.SharedAllocContainerPath {
			return false
		}
		_, err := os.Stat(m.Source)
		return errors.Is(err, fs.ErrNotExist)
	})
}
