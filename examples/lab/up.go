package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// upOptions say what lab to bring up.
type upOptions struct {
	nodes   int
	install []string // binaries for the nodes
	images  []string
	nomad   bool
	bare    bool
	host    hostKind
}

func upCommand(lab *Lab) *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the lab up, building what is missing; does nothing if it is up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return lab.up(ctx, o)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.nodes, "nodes", 1, "number of nodes (node1, node2, …); more that run already stay")
	flags.StringSliceVar(&o.install, "install", nil, "binaries to install into the nodes, as install-binary does")
	flags.StringSliceVar(&o.images, "images", usualImages(), "images to build and load")
	flags.BoolVar(&o.nomad, "nomad", true, "run a Nomad agent on each node")
	o.host.addFlags(flags)
	flags.BoolVar(&o.bare, "bare", false, "leave Docker and Nomad as a distribution installs them: no daemon.json, no runtime, no driver")
	return cmd
}

// up brings nodes up one after the other; they are cheap, and what takes time is built before the first.
func (l *Lab) up(ctx context.Context, o upOptions) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root, for namespaces and mounts: run it with sudo")
	}
	if o.nodes < 1 || o.nodes > maxNodes {
		return fmt.Errorf("%d nodes asked for: a lab has 1 to %d", o.nodes, maxNodes)
	}
	if err := o.host.check(); err != nil {
		return err
	}
	if o.host.vm && o.nodes > 1 {
		return fmt.Errorf("--vm: one node, not %d: virtual machines have no switch between them", o.nodes)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	built, err := l.buildAll(ctx, o)
	if err != nil {
		return err
	}
	for i := 1; i <= o.nodes; i++ {
		node := l.node(nodeName(i))
		spec := nodeSpec{
			Name: node.Name, Rootfs: built.rootfs, Cgroup: node.cgroup(), Bare: o.bare,
			CgroupV2: o.host.cgroupV2 || o.host.systemd, Systemd: o.host.systemd, VM: built.vm,
		}
		if err := node.ensure(ctx, spec); err != nil {
			return err
		}
		if err := node.furnish(ctx, built, o.install); err != nil {
			return err
		}
		if err := node.ensureServices(ctx, node.services(built, o)); err != nil {
			return err
		}
		if err := node.loadImages(ctx, o.images...); err != nil {
			return err
		}
	}
	return nil
}

// parts are what every node is made of.
type parts struct {
	rootfs  string
	standIn string // CRIU for a machine that lacks a capability, or ""
	nomad   nomadBinary
	dockerd string // directory of an engine, or "" for the distribution's
	runc    string // directory of a runtime, or ""
	vm      string // directory of what a virtual machine begins with, or ""
}

// buildAll makes what this machine's cache lacks, side by side: Nomad's agent takes processors, the rest the network.
// When one of them fails the others are still finished, so that the next call has less to do.
func (l *Lab) buildAll(ctx context.Context, o upOptions) (p parts, err error) {
	var builds errgroup.Group
	if o.nomad {
		builds.Go(func() (err error) {
			p.nomad, err = l.nomad(ctx, o.host)
			return err
		})
	}
	builds.Go(func() (err error) {
		p.dockerd, err = l.dockerd(ctx, o.host)
		return err
	})
	builds.Go(func() (err error) {
		if o.host.vm {
			p.vm, err = l.vmImage(ctx)
		}
		return err
	})
	builds.Go(func() (err error) {
		p.runc, err = l.runc(ctx, o.host)
		return err
	})
	builds.Go(func() (err error) {
		// First of all, as it installs debootstrap if need be, and other images are made from it.
		if p.rootfs, err = l.rootfs(ctx); err != nil {
			return err
		}
		builds.Go(func() (err error) {
			p.standIn, err = l.standIn(ctx, p.rootfs)
			return err
		})
		for _, i := range images() {
			if slices.Contains(o.images, i.Name) {
				builds.Go(func() error {
					_, _, err := l.archive(ctx, i)
					return err
				})
			}
		}
		return nil
	})
	err = builds.Wait()
	return p, err
}

// furnish gives a running node what its root file system doesn't have.
func (n *Node) furnish(ctx context.Context, p parts, install []string) error {
	if err := n.install(ctx, install); err != nil {
		return err
	}
	if n.isVM() { // it has a network, and all capabilities
		if p.nomad.path == "" {
			return nil
		}
		return n.inVM(ctx, "ln", "-sf", hostRoot+p.nomad.path, "/usr/local/bin/nomad")
	}
	if err := n.connect(); err != nil {
		return err
	}
	if err := n.useStandIn(p.standIn); err != nil {
		return err
	}
	if err := n.useRunc(p.runc); err != nil {
		return err
	}
	if p.nomad.path == "" {
		return nil
	}
	return n.link(hostRoot+p.nomad.path, "/usr/local/bin/nomad")
}

// ensure brings the node up if it isn't, or if it isn't the asked one.
func (n *Node) ensure(ctx context.Context, spec nodeSpec) error {
	if n.initPID() != 0 {
		state, err := n.state(ctx)
		switch {
		case err != nil:
			slog.Warn("node runs but does not answer, starting it again", "node", n.Name, "err", err)
		case state.Spec != spec:
			slog.Warn("node was made for another configuration, starting it again", "node", n.Name)
		default:
			return nil
		}
		if err := n.stop(ctx); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := n.start(ctx, spec); err != nil {
		return err
	}
	slog.Info("node is up", "node", n.Name, "took", time.Since(start).Round(10*time.Millisecond))
	return nil
}

func downCommand(lab *Lab) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take the lab down: no process, mount, network namespace or cgroup of it stays",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return lab.down(ctx, purge)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "delete the nodes' data too (the cache stays)")
	return cmd
}

func (l *Lab) down(ctx context.Context, purge bool) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	nodes, err := l.nodes()
	if err != nil {
		return err
	}
	// Clients before the server, so that Nomad's agents can say goodbye.
	slices.Reverse(nodes)
	for _, n := range nodes {
		if err := n.stop(ctx); err != nil {
			return err
		}
	}
	if err := l.stopSwitch(ctx); err != nil {
		return err
	}
	if err := removeCgroups(l.cgroup()); err != nil {
		return err
	}
	removeIfEmpty(filepath.Dir(l.cgroup()))
	if purge {
		for _, n := range nodes {
			if err := os.RemoveAll(n.Dir); err != nil {
				return fmt.Errorf("delete the node's data: %w", err)
			}
		}
		if err := os.Remove(filepath.Join(l.Dir, "nodes")); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("delete the nodes' data: %w", err)
		}
	}
	return nil
}
