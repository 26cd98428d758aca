package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestDirectoriesOfOthers: whatever directory a user names by mistake, nothing in it is touched, and nothing is put there.
func TestDirectoriesOfOthers(t *testing.T) {
	p := newProgram(t)
	ref := p.ok(p.buildArgs()...)
	others := func() string {
		dir, err := os.MkdirTemp(p.dir, "home-")
		require.NoError(t, err)
		for _, sub := range []string{"tmp/thesis", "clones/dolly", "build-1", ".cache"} {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "tmp", "thesis", "chapter"), []byte("words"), 0o644))
		require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
		return dir
	}
	refused := func(dir string, args ...string) {
		t.Helper()
		before := tree(t, dir)
		o := p.call(args...)
		require.Equal(t, 1, o.code, "%v: %s", args, o.stderr)
		require.Contains(t, o.stderr, "directory "+dir+": the directory is not ours")
		require.Equal(t, before, tree(t, dir), "%v", args)
	}
	untouched := func(dir string, code int, args ...string) {
		t.Helper()
		before := tree(t, dir)
		o := p.call(args...)
		require.Equal(t, code, o.code, "%v: %s", args, o.stderr)
		require.Equal(t, before, tree(t, dir), "%v", args)
	}

	dir := others()
	refused(dir, p.buildArgs("--build-dir", dir, "--force")...)
	refused(dir, p.buildArgs("--store", dir)...)
	refused(dir, "--cache", dir, "cache", "ls")
	refused(dir, "--cache", dir, "cache", "prune")
	refused(dir, append([]string{"--cache", dir}, p.runArgs(tinyImage, "--policy", "always")...)...)
	// If there is nothing to build, the directory is not needed.
	untouched(dir, 0, p.buildArgs("--build-dir", dir)...)
	untouched(dir, 1, "build", "tinny:lab", "--ready", "tcp://:80", "--build-dir", dir)

	empty, err := os.MkdirTemp(p.dir, "empty-")
	require.NoError(t, err)
	untouched(empty, 0, p.buildArgs("--build-dir", empty)...)
	untouched(empty, 1, "build", "tinny:lab", "--ready", "tcp://:80", "--build-dir", empty)
	untouched(empty, 0, "--cache", empty, "cache", "ls")
	untouched(empty, 0, "--cache", empty, "cache", "prune")
	absent := filepath.Join(p.dir, "absent")
	p.ok("--cache", absent, "cache", "ls")
	p.ok("--cache", absent, "cache", "prune")
	require.NoDirExists(t, absent)
	require.Contains(t, p.ok("ls"), strings.SplitN(ref, "/", 2)[0][:12], "the snapshot is still there")
}

// TestListingRemovesNothing: not even what is ours.
func TestListingRemovesNothing(t *testing.T) {
	p := newProgram(t)
	for _, sub := range []string{"snapshots", "clones", "locks", "tmp/" + strings.Repeat("0", 64)} { // as an earlier version left it
		require.NoError(t, os.MkdirAll(p.path("cache", sub), 0o700))
	}
	before := tree(t, p.path("cache"))
	p.ok("cache", "ls")
	require.Equal(t, before, tree(t, p.path("cache")))
	p.ok("cache", "prune")
	require.NoDirExists(t, p.path("cache", "tmp", strings.Repeat("0", 64)), "its owner is dead")
	require.FileExists(t, p.path("cache", ".cache"), "marked")
}

// TestNoFlagLooksLikeAnother: mistyping one of docker's flags, which ours stand beside, must not give another of ours.
func TestNoFlagLooksLikeAnother(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		seen := map[string]string{}
		flags := func(f *pflag.Flag) {
			plain := strings.ReplaceAll(f.Name, "-", "")
			require.NotContains(t, seen, plain, "%s --%s", cmd.CommandPath(), f.Name)
			seen[plain] = f.Name
		}
		cmd.LocalFlags().VisitAll(flags)
		cmd.InheritedFlags().VisitAll(flags)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(io.Discard, io.Discard))
}

// tree is everything below a directory: names with their types, sizes and times of change.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		all[path] = fi.Mode().String() + " " + fi.ModTime().String()
		return nil
	}))
	return all
}
