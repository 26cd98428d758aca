package main

import (
	"context"
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
			err := installBusybox(ctx, lab, dir, "sh", "ls", "cat", "echo", "ps", "wget", "sleep", "hostname", "kill", "env",
				"nc", "touch", "rm", "mkdir", "id", "ip", "mount", "true", "false", "test", "date", "head", "tail", "grep",
				"dd", "stat", "sync")
			if err != nil {
				return err
			}
			return writeFiles(map[string]string{
				filepath.Join(dir, "www/index.html"): page,
				filepath.Join(dir, "etc/passwd"):     "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
				filepath.Join(dir, "etc/group"):      "root:x:0:\nnogroup:x:65534:\n",
			})
		},
	}
}
