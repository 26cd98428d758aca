package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// layerCommand is for tests that need a machine like a node with more installed, and that change it.
func layerCommand(lab *Lab) *cobra.Command {
	return &cobra.Command{
		Use:   "layer PACKAGE...",
		Short: "Print the lowerdir of an overlay: the root file system of nodes, with more of Debian's packages",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, packages []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			lowerdir, err := lab.layer(ctx, packages)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), lowerdir)
			return err
		},
	}
}

// addPackages fills upper with what the packages put over the node's root file system.
const addPackages = `
rootfs=$1 dir=$2
shift 2
mkdir -p "$dir"
cd "$dir"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=upper,workdir=work" root
mount -t proc proc root/proc
chroot root sh -ec '
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o Acquire::Check-Valid-Until=false update
apt-get -q -y --no-install-recommends install "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*
' sh "$@"
umount root/proc root
rm -r work root
`

// layer builds it first if this machine has none with these packages.
func (l *Lab) layer(ctx context.Context, packages []string) (string, error) {
	rootfs, err := l.rootfs(ctx)
	if err != nil {
		return "", err
	}
	r := nodeRecipe()
	dir, err := l.cached(ctx, "rootfs-"+r.Suite+"-"+hashOf([]any{r.keyed(), packages, addPackages}), func(tmp string) error {
		slog.Info("installing more packages over the node's root file system, once", "packages", strings.Join(packages, " "), "dir", tmp)
		start := time.Now()
		log := tmp + ".log"
		args := append([]string{"--mount", "--pid", "--fork", "--propagation", "private", "--", "sh", "-ec", addPackages, "sh", rootfs, tmp}, packages...)
		if err := unshareLogged(ctx, log, args...); err != nil {
			return err
		}
		slog.Info("built", "dir", tmp, "took", time.Since(start).Round(time.Second))
		return os.Remove(log)
	})
	if err != nil {
		return "", fmt.Errorf("root file system with %s: %w", strings.Join(packages, ", "), err)
	}
	return filepath.Join(dir, "upper") + ":" + rootfs, nil
}
