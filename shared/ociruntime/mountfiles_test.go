package ociruntime

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/mountfiles"
)

// A snapshot's files come to the writable bind mounts of the container's own configuration, and to nothing else of the host; and what a
// start has placed goes with its container, if that never ran.
func TestFilesArePlacedOnOwnMountsOnly(t *testing.T) {
	c := newContainer(t)
	root, writable, readOnly := t.TempDir(), t.TempDir(), t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "run/v"), 0o755))
	require.NoError(t, os.Symlink("run", filepath.Join(root, "link")))
	b := &bundle{dir: t.TempDir(), spec: specs.Spec{
		Root: &specs.Root{Path: root},
		Mounts: []specs.Mount{
			{Destination: "/link/v", Type: "bind", Source: writable, Options: []string{"rbind", "rw"}},
			{Destination: "/ro", Type: "bind", Source: readOnly, Options: []string{"rbind", "ro"}},
			{Destination: "/rro", Type: "bind", Source: readOnly, Options: []string{"rbind", "rro"}},
			{Destination: "/covered", Type: "bind", Source: readOnly, Options: []string{"rbind"}},
			{Destination: "/covered", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/proc", Type: "proc", Source: "proc"},
		},
	}}
	place := func(name string) error {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Format: tar.FormatPAX}))
		require.NoError(t, w.Close())
		file := filepath.Join(t.TempDir(), "mounts.tar")
		require.NoError(t, os.WriteFile(file, archive.Bytes(), 0o600))
		return c.placeFiles(b, file)
	}
	for _, name := range []string{"ro/file", "rro/file", "covered/file", "proc/file", "file", "run/file", "link/v/file", "run/v"} {
		require.ErrorIs(t, place(name), mountfiles.ErrDamaged, name)
	}
	require.NoError(t, place("run/v/file"))
	require.FileExists(t, filepath.Join(writable, "file"))
	require.NoError(t, c.run.Forget(c.id))
	require.NoFileExists(t, filepath.Join(writable, "file"))

	require.NoError(t, place("run/v/file"))
	require.NoError(t, c.settlePlaced())
	require.NoError(t, c.run.Forget(c.id))
	require.FileExists(t, filepath.Join(writable, "file"))
	entries, err := os.ReadDir(readOnly)
	require.NoError(t, err)
	require.Empty(t, entries)
}
