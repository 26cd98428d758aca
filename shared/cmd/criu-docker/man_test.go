package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra/doc"
	"github.com/stretchr/testify/require"
)

var manDir = flag.String("man", "", "directory that man pages are written to; shared/packaging/release packs them")

// Man pages are made for a release and not kept. They are dated by SOURCE_DATE_EPOCH.
func TestManPages(t *testing.T) {
	for _, name := range []string{envStore, envCache, envCacheSize, "DOCKER_HOST"} {
		t.Setenv(name, "") // they would show as defaults
	}
	dir := *manDir
	if dir == "" {
		dir = t.TempDir()
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	root := newRoot(io.Discard, io.Discard)
	root.DisableAutoGenTag = true
	require.NoError(t, doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "criu-docker", Manual: "criu-docker"}, dir))
	// The runtime and the page server are programs that other programs start.
	for _, name := range []string{"criu-docker-runc", "criu-docker-pages"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".1"), []byte(".so man1/criu-docker-runtime-install.1\n"), 0o644))
	}
	for _, page := range []string{"criu-docker", "criu-docker-run", "criu-docker-cache-prune"} {
		content, err := os.ReadFile(filepath.Join(dir, page+".1"))
		require.NoError(t, err)
		require.Contains(t, string(content), ".SH NAME")
		require.Contains(t, string(content), ".SH SYNOPSIS")
	}
}

func TestCompletion(t *testing.T) {
	for _, args := range [][]string{{"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}, {"__complete", "cache", "pr"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, exitOK, run(args, &stdout, &stderr), stderr.String())
		want := "criu-docker"
		if args[0] == "__complete" {
			want = "prune"
		}
		require.Contains(t, stdout.String(), want)
	}
}
