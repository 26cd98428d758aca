package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

func upCommand(lab *Lab) *cobra.Command {
	var install []string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the lab up, building what is missing; does nothing if it is up",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return lab.up(ctx, install)
		},
	}
	cmd.Flags().StringSliceVar(&install, "install", nil, "binaries to install into the nodes, as install-binary does")
	return cmd
}

func (l *Lab) up(ctx context.Context, install []string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the lab needs root, for namespaces and mounts: run it with sudo")
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rootfs, err := l.rootfs(ctx)
	if err != nil {
		return err
	}
	node := l.node("node1")
	spec := nodeSpec{Name: node.Name, Rootfs: rootfs, Cgroup: node.cgroup()}
	if err := node.ensure(ctx, spec); err != nil {
		return err
	}
	if err := node.install(install); err != nil {
		return err
	}
	return node.loadImages(ctx, "tiny")
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
			return n.waitReady(ctx)
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
	for _, n := range nodes {
		if err := n.stop(ctx); err != nil {
			return err
		}
	}
	if err := removeCgroups(l.cgroup()); err != nil {
		return err
	}
	if purge {
		if err := os.RemoveAll(filepath.Join(l.Dir, "nodes")); err != nil {
			return fmt.Errorf("delete the nodes' data: %w", err)
		}
	}
	return nil
}
