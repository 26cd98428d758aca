package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// pauseImage does nothing, for ever: the container that holds the network namespace of a group of tasks.
func pauseImage() image {
	return image{
		Name:   "pause",
		Recipe: []any{nodeRecipe().Suite, "busybox", 1},
		Config: imageConfig{
			Entrypoint: []string{"/bin/busybox", "sleep", "2147483647"},
			StopSignal: "SIGKILL", // process 1 ignores signals that it doesn't handle
		},
		Build: func(ctx context.Context, lab *Lab, dir string) error {
			return installBusybox(ctx, lab, dir)
		},
	}
}

// installBusybox puts the statically linked busybox of the node's system into an image, under the names given.
func installBusybox(ctx context.Context, lab *Lab, dir string, names ...string) error {
	rootfs, err := lab.rootfs(ctx)
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("image root: %w", err)
		}
	}
	if err := copyProgram(filepath.Join(rootfs, "usr/bin/busybox"), filepath.Join(dir, "bin/busybox")); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			return fmt.Errorf("image root: %w", err)
		}
	}
	return nil
}
