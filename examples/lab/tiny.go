package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// tinyImage is the smallest thing that answers HTTP: the floor that every start is compared with.
func tinyImage() image {
	const page = "<!doctype html><title>tiny</title><p>It works.\n"
	return image{
		Name:   "tiny",
		Recipe: []any{nodeRecipe().Suite, "busybox", page, 1},
		Config: imageConfig{
			Entrypoint:   []string{"/bin/busybox"},
			Cmd:          []string{"httpd", "-f", "-p", "80", "-h", "/www"},
			Env:          []string{"PATH=/bin"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
		},
		Build: func(ctx context.Context, lab *Lab, dir string) error {
			rootfs, err := lab.rootfs(ctx)
			if err != nil {
				return err
			}
			for _, d := range []string{"bin", "www", "etc", "tmp", "proc", "sys", "dev"} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
					return fmt.Errorf("tiny: %w", err)
				}
			}
			if err := copyFile(filepath.Join(rootfs, "usr/bin/busybox"), filepath.Join(dir, "bin/busybox"), 0o755); err != nil {
				return err
			}
			for _, name := range []string{"sh", "ls", "cat", "echo", "ps", "wget", "sleep", "hostname", "kill", "env", "nc", "touch", "rm", "mkdir", "id", "ip", "mount", "true", "false", "test", "date", "head", "tail", "grep", "dd", "stat", "sync"} {
				if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
					return fmt.Errorf("tiny: %w", err)
				}
			}
			files := map[string]string{
				"www/index.html": page,
				"etc/passwd":     "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
				"etc/group":      "root:x:0:\nnogroup:x:65534:\n",
			}
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					return fmt.Errorf("tiny: %w", err)
				}
			}
			return nil
		},
	}
}
