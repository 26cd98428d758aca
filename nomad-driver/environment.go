package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/client/allocdir"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/nomad-driver/foreign"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// envFileName is the file in the task's local and secrets directories that tells a restored process what the
// orchestrator set for this allocation: the environment in its memory is the donor's.
const envFileName = snapshot.AllocationEnvFile

// writeEnvFiles writes the variables that Nomad sets anew for every allocation as NAME='value' lines, ready to be sourced
// by a shell: tokens to secrets/, which `nomad alloc fs` does not show, all others to local/. They are readable for
// every user, as the process that needs them may run as any.
func writeEnvFiles(cfg *drivers.TaskConfig) error {
	var public, secret strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cfg.Env)) {
		if !snapshot.PerAllocation(name) {
			continue
		}
		file := &public
		if strings.HasPrefix(name, "NOMAD_TOKEN") || strings.HasSuffix(name, "_TOKEN") {
			file = &secret
		}
		fmt.Fprintf(file, "%s=%s\n", name, shellQuote(cfg.Env[name]))
	}
	for _, f := range []struct {
		dir     string
		content string
	}{{allocdir.TaskLocal, public.String()}, {allocdir.TaskSecrets, secret.String()}} {
		// A task that has its own directory as a volume may have put a link in the place of these.
		if err := foreign.WriteFile(cfg.TaskDir().Dir, filepath.Join(f.dir, envFileName), []byte(f.content), 0o644); err != nil {
			return fmt.Errorf("write the allocation's variables: %w", err)
		}
	}
	return nil
}

// shellQuote makes s one word of a POSIX shell.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
