package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

//go:embed ballast/main.go ballast/memory.go
var ballastFiles embed.FS

// ballastModule makes a module of the files, which need nothing but the standard library.
const ballastModule = "module ballast\n\ngo 1.24\n"

// ballastImage is an app whose memory has the size that its argument says, in MiB: what a start takes is measured over it.
func ballastImage() image {
	return image{
		Name:   "ballast",
		Recipe: []any{contents(ballastFiles), ballastModule, runtime.Version(), 1},
		Config: imageConfig{
			Entrypoint:   []string{"/ballast"},
			Cmd:          []string{"64"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
		},
		Build: func(ctx context.Context, _ *Lab, dir string) error {
			source, err := os.MkdirTemp("", "ballast-")
			if err != nil {
				return fmt.Errorf("source of ballast: %w", err)
			}
			defer os.RemoveAll(source)
			files := map[string]string{filepath.Join(source, "go.mod"): ballastModule}
			for name, content := range contents(ballastFiles) {
				files[filepath.Join(source, filepath.Base(name))] = content
			}
			if err := writeFiles(files); err != nil {
				return err
			}
			cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "ballast"))
			cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("build ballast: %w\n%s", err, tail(out))
			}
			return nil
		},
	}
}
