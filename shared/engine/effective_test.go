package engine

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// web is an image with a default for everything.
func web() image.InspectResponse {
	return image.InspectResponse{
		ID: digest.FromString("web").String(), Architecture: "amd64",
		Config: &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
			User: "app", WorkingDir: "/srv", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
			Env: []string{"PATH=/bin", "MODE=image"}, ExposedPorts: map[string]struct{}{"3000/tcp": {}}, Volumes: map[string]struct{}{"/data/": {}},
		}},
	}
}

func effective(t *testing.T, spec Spec) snapshot.RunConfig {
	t.Helper()
	spec.Config.Image = "web"
	run, err := Effective(spec, web())
	require.NoError(t, err)
	return run
}

func TestEffectiveTakesTheImagesDefaults(t *testing.T) {
	run := effective(t, Spec{Config: &container.Config{}})
	id := digest.FromString("web")
	require.Equal(t, []string{"/entry", "serve"}, run.Args)
	require.Equal(t, "app", run.User)
	require.Equal(t, "/srv", run.WorkingDir)
	require.Equal(t, map[string]string{"PATH": snapshot.HashEnv(id, "PATH", "/bin"), "MODE": snapshot.HashEnv(id, "MODE", "image")}, run.Env)
	require.Equal(t, []string{"3000/tcp"}, run.Ports)
	require.Equal(t, []snapshot.Mount{{Destination: "/data", Type: "bind"}}, run.Mounts)
}

// TestEffectiveSpellings: what the engine takes for the same is the same.
func TestEffectiveSpellings(t *testing.T) {
	bare := web()
	bare.Config.User, bare.Config.WorkingDir = "", ""
	ref := func(user, dir string) string {
		run, err := Effective(Spec{Config: &container.Config{Image: "web", User: user, WorkingDir: dir}}, bare)
		require.NoError(t, err)
		return run.Fingerprint()
	}
	for _, user := range []string{"0", "root"} {
		require.Equal(t, ref("", ""), ref(user, ""), user)
	}
	for _, user := range []string{"root:root", "root:0", "0:root", ":0"} {
		require.Equal(t, ref("0:0", ""), ref(user, ""), user)
	}
	require.NotEqual(t, ref("", ""), ref("0:0", ""), "which has no further groups")
	require.NotEqual(t, ref("", ""), ref("app", ""))
	for _, dir := range []string{"/", "//", "/."} {
		require.Equal(t, ref("", ""), ref("", dir), dir)
	}
	require.Equal(t, ref("", "/srv"), ref("", "/srv/"))
	require.Equal(t, "", effective(t, Spec{Config: &container.Config{User: "root"}}).User, "the image's user is another")
}

func TestEffectiveCommand(t *testing.T) {
	tests := []struct {
		name            string
		entrypoint, cmd []string
		want            []string
	}{
		{"command only", nil, []string{"console"}, []string{"/entry", "console"}},
		{"entrypoint hides the image's command", []string{"/other"}, nil, []string{"/other"}},
		{"both", []string{"/other"}, []string{"x"}, []string{"/other", "x"}},
		{"no entrypoint", []string{""}, []string{"x"}, []string{"x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.Equal(t, tt.want, effective(t, Spec{Config: &container.Config{Entrypoint: tt.entrypoint, Cmd: tt.cmd}}).Args)
		})
	}
}

func TestEffectiveEnvironment(t *testing.T) {
	id := digest.FromString("web")
	run := effective(t, Spec{Config: &container.Config{Env: []string{"MODE=request", "PATH", "HOSTNAME=h", "NOMAD_ALLOC_ID=1", "EMPTY="}}})
	require.Equal(t, map[string]string{
		"MODE":  snapshot.HashEnv(id, "MODE", "request"), // PATH is taken away, and what is set for each container is left out
		"EMPTY": snapshot.HashEnv(id, "EMPTY", ""),
	}, run.Env)
}

func TestEffectiveMounts(t *testing.T) {
	run := effective(t, Spec{
		Config: &container.Config{Volumes: map[string]struct{}{"/anonymous": {}}},
		Host: &container.HostConfig{
			Binds:  []string{"/host/a:/a", "named:/b/:ro", "/c", "/host/data:/data:ro,z"},
			Mounts: []mount.Mount{{Type: mount.TypeVolume, Source: "v", Target: "/d", ReadOnly: true}, {Type: mount.TypeTmpfs, Target: "/e"}},
			Tmpfs:  map[string]string{"/run": "size=1m"},
		},
	})
	require.Equal(t, []snapshot.Mount{
		{Destination: "/a", Type: "bind"},
		{Destination: "/anonymous", Type: "bind"},
		{Destination: "/b", Type: "bind", ReadOnly: true},
		{Destination: "/c", Type: "bind"},
		{Destination: "/d", Type: "bind", ReadOnly: true},
		{Destination: "/data", Type: "bind", ReadOnly: true}, // instead of the image's volume
		{Destination: "/e", Type: "tmpfs"},
		{Destination: "/run", Type: "tmpfs"},
	}, run.Mounts)

	_, err := Effective(Spec{Config: &container.Config{}, Host: &container.HostConfig{Binds: []string{"a:b:c:d"}}}, web())
	require.ErrorContains(t, err, `bind "a:b:c:d"`)
	_, err = Effective(Spec{Config: &container.Config{}, Host: &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeImage, Target: "/i"}}}}, web())
	require.ErrorContains(t, err, `mount at "/i" has type "image"`)
}

// What means the same is the same, and what CRIU brings back makes a difference.
func TestFingerprint(t *testing.T) {
	fingerprint := func(config container.Config, host *container.HostConfig) string {
		return effective(t, Spec{Config: &config, Host: host}).Fingerprint()
	}
	plain := fingerprint(container.Config{}, nil)
	for name, same := range map[string]string{
		"defaults spelt out":   fingerprint(container.Config{User: "app", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"MODE=image"}}, nil),
		"published ports":      fingerprint(container.Config{ExposedPorts: nat.PortSet{"80/tcp": {}}}, &container.HostConfig{PublishAllPorts: true}),
		"limits":               fingerprint(container.Config{}, &container.HostConfig{Resources: container.Resources{Memory: 1 << 30}}),
		"network and hostname": fingerprint(container.Config{Hostname: "h"}, &container.HostConfig{NetworkMode: "none"}),
		"default capabilities": fingerprint(container.Config{}, &container.HostConfig{CapAdd: []string{"CHOWN"}}),
		"private ipc":          fingerprint(container.Config{}, &container.HostConfig{IpcMode: "private"}),
	} {
		require.Equal(t, plain, same, name)
	}
	dropped := fingerprint(container.Config{}, &container.HostConfig{CapDrop: []string{"NET_RAW"}})
	require.Equal(t, dropped, fingerprint(container.Config{}, &container.HostConfig{CapDrop: []string{"cap_net_raw"}}), "however it is spelt")
	yes := true
	seen := map[string]string{plain: "plain", dropped: "dropped"}
	for name, other := range map[string]string{
		"terminal":    fingerprint(container.Config{Tty: true}, nil),
		"user":        fingerprint(container.Config{User: "root"}, nil),
		"privileged":  fingerprint(container.Config{}, &container.HostConfig{Privileged: true}),
		"init":        fingerprint(container.Config{}, &container.HostConfig{Init: &yes}),
		"host ipc":    fingerprint(container.Config{}, &container.HostConfig{IpcMode: "host"}),
		"sysctl":      fingerprint(container.Config{}, &container.HostConfig{Sysctls: map[string]string{"net.core.somaxconn": "1"}}),
		"ulimit":      fingerprint(container.Config{}, &container.HostConfig{Resources: container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}}}}),
		"read-only":   fingerprint(container.Config{}, &container.HostConfig{ReadonlyRootfs: true}),
		"more groups": fingerprint(container.Config{}, &container.HostConfig{GroupAdd: []string{"video"}}),
	} {
		require.NotContains(t, seen, other, "%s is like %s", name, seen[other])
		seen[other] = name
	}
	_, err := Effective(Spec{Config: &container.Config{}, Host: &container.HostConfig{CapAdd: []string{"FLY"}}}, web())
	require.ErrorContains(t, err, "FLY")
}
