package ociruntime

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
)

// writeBundle writes spec, completed by what every bundle has, as an engine does.
func writeBundle(t *testing.T, spec specs.Spec) string {
	t.Helper()
	dir := t.TempDir()
	if spec.Root == nil {
		spec.Root = &specs.Root{Path: "rootfs"}
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	require.NoError(t, writeJSON(filepath.Join(dir, "config.json"), spec))
	return dir
}

func TestBundleThatCannotBeRestored(t *testing.T) {
	_, err := loadBundle(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte("{}"), 0o600))
	_, err = loadBundle(dir)
	require.ErrorContains(t, err, "no linux or no root section")

	_, err = loadBundle(writeBundle(t, specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace}}}}))
	require.ErrorContains(t, err, "--userns=host")
}

func TestBundleIsSavedWithWhatARestoreNeeds(t *testing.T) {
	dir := writeBundle(t, specs.Spec{
		Annotations: map[string]string{"engine's": "own"},
		Hooks:       &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/engine"}}},
		Linux:       &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}}},
	})
	b, err := loadBundle(dir)
	require.NoError(t, err)
	path, own := b.network()
	require.Empty(t, path)
	require.True(t, own)
	b.annotate(criuConfigAnnotation, "/criu.conf")
	b.setNetwork("/run/netns/x")
	require.NoError(t, b.save())

	saved, err := loadBundle(dir)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"engine's": "own", criuConfigAnnotation: "/criu.conf"}, saved.spec.Annotations)
	require.Equal(t, []specs.Hook{{Path: "/engine"}}, saved.spec.Hooks.CreateRuntime, "the engine's network")
	require.Equal(t, []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace, Path: "/run/netns/x"}}, saved.spec.Linux.Namespaces)
	path, own = saved.network()
	require.Equal(t, "/run/netns/x", path)
	require.True(t, own)
	require.Equal(t, filepath.Join(dir, "rootfs"), saved.rootfs())
}

func TestBundleOnTheHostsNetwork(t *testing.T) {
	b, err := loadBundle(writeBundle(t, specs.Spec{Root: &specs.Root{Path: "/var/lib/rootfs"}}))
	require.NoError(t, err)
	_, own := b.network()
	require.False(t, own)
	b.setNetwork("/proc/1/ns/net")
	require.Equal(t, []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/proc/1/ns/net"}}, b.spec.Linux.Namespaces)
	require.Equal(t, "/var/lib/rootfs", b.rootfs())
}

func TestSourcesOfBindMountsAreNoLinks(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "tini-static"), filepath.Join(dir, "docker-init")
	require.NoError(t, os.WriteFile(file, nil, 0o700))
	require.NoError(t, os.Symlink("tini-static", link))
	b := bundle{spec: specs.Spec{Mounts: []specs.Mount{
		{Destination: "/sbin/docker-init", Type: "bind", Source: link, Options: []string{"bind", "ro"}},
		{Destination: "/also", Source: link, Options: []string{"rbind"}},
		{Destination: "/file", Type: "bind", Source: file},
		{Destination: "/proc", Type: "proc", Source: "proc"},
	}}}
	require.NoError(t, b.resolveSources())
	var sources []string
	for _, m := range b.spec.Mounts {
		sources = append(sources, m.Source)
	}
	require.Equal(t, []string{file, file, file, "proc"}, sources)

	b.spec.Mounts = []specs.Mount{{Destination: "/data", Type: "bind", Source: dir + "/gone"}}
	require.ErrorContains(t, b.resolveSources(), "mount at /data")
}
