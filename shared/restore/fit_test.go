package restore

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

var imageID = digest.FromString("image")

func run() snapshot.RunConfig {
	return snapshot.RunConfig{
		Args: []string{"puma", "-p", "3000"}, User: "app", WorkingDir: "/srv", Ports: []string{"3000/tcp"},
		Env: map[string]string{"RAILS_ENV": "1111", "SECRET": "2222"},
		Mounts: []snapshot.Mount{
			{Destination: "/alloc", Type: "bind"}, {Destination: "/data", Type: "bind", ReadOnly: true}, {Destination: "/tmp", Type: "tmpfs"},
		},
		Security: snapshot.Security{Capabilities: []string{"CHOWN", "KILL"}},
	}
}

func TestFit(t *testing.T) {
	tests := []struct {
		name   string
		change func(r *snapshot.RunConfig)
		field  string
		reason string
	}{
		{"the same", func(*snapshot.RunConfig) {}, "", ""},
		{"other ports", func(r *snapshot.RunConfig) { r.Ports = nil }, "", ""},
		{"command", func(r *snapshot.RunConfig) { r.Args = []string{"puma", "-p", "4000"} }, "command", `the snapshot's command is "[puma -p 3000]" and the container's is "[puma -p 4000]"`},
		{"user", func(r *snapshot.RunConfig) { r.User = "" }, "user", `the snapshot's user is "app" and the container's is "root"`},
		{"working directory", func(r *snapshot.RunConfig) { r.WorkingDir = "" }, "working directory", `the snapshot's working directory is "/srv" and the container's is "/"`},
		{"terminal", func(r *snapshot.RunConfig) { r.TTY = true }, "terminal", "the container has a terminal"},
		{"further variable", func(r *snapshot.RunConfig) { r.Env["DEBUG"] = "3333" }, "environment", "the container sets the environment variable DEBUG, which the snapshot does not have"},
		{"missing variable", func(r *snapshot.RunConfig) { delete(r.Env, "SECRET") }, "environment", "the snapshot has the environment variable SECRET, which the container does not set"},
		{"other value", func(r *snapshot.RunConfig) { r.Env["SECRET"] = "4444" }, "environment", "the environment variable SECRET has another value in the snapshot"},
		{"further mount", func(r *snapshot.RunConfig) {
			r.Mounts = append(r.Mounts, snapshot.Mount{Destination: "/x", Type: "bind"})
		}, "mounts", "the container mounts /x, which the snapshot does not have"},
		{"missing mount", func(r *snapshot.RunConfig) { r.Mounts = r.Mounts[1:] }, "mounts", "the snapshot has a mount at /alloc, which the container does not have"},
		{"writable mount", func(r *snapshot.RunConfig) { r.Mounts[1].ReadOnly = false }, "mounts", "the mount at /data is a read-only bind in the snapshot and a writable bind in the container"},
		{"kind of mount", func(r *snapshot.RunConfig) { r.Mounts[2].Type = "bind" }, "mounts", "the mount at /tmp is a writable tmpfs in the snapshot and a writable bind in the container"},
		{"capabilities", func(r *snapshot.RunConfig) { r.Security.Capabilities = nil }, "capabilities", `capabilities is "[CHOWN KILL]" in the snapshot and "[]" in the container`},
		{"privileged", func(r *snapshot.RunConfig) { r.Security.Privileged = true }, "privileged", `privileged is "false" in the snapshot and "true" in the container`},
	}
	cfg := snapshot.Config{Image: snapshot.Image{ID: imageID, Arch: "amd64"}, Run: run()}
	img := image.InspectResponse{ID: imageID.String(), Architecture: "amd64"}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := run()
			tt.change(&want)
			err := Fit(cfg, img, want, criu.Host{})
			if tt.field == "" {
				require.NoError(t, err)
				return
			}
			var misfit *Misfit
			require.ErrorAs(t, err, &misfit)
			require.Equal(t, tt.field, misfit.Field)
			require.Contains(t, misfit.Reason, tt.reason)
			require.NotRegexp(t, "1111|2222|3333|4444", misfit.Reason, "values are not shown, not even hashed")
		})
	}
}

func TestFitNamesTheImageFirst(t *testing.T) {
	cfg := snapshot.Config{Image: snapshot.Image{ID: imageID, Arch: "amd64"}, Run: run()}
	var misfit *Misfit
	require.ErrorAs(t, Fit(cfg, image.InspectResponse{ID: "sha256:other", Architecture: "arm64"}, snapshot.RunConfig{}, criu.Host{}), &misfit)
	require.Equal(t, "image", misfit.Field)
	require.ErrorAs(t, Fit(cfg, image.InspectResponse{ID: imageID.String(), Architecture: "arm64"}, snapshot.RunConfig{}, criu.Host{}), &misfit)
	require.Equal(t, "architecture", misfit.Field)
}

func TestFitOfTheHost(t *testing.T) {
	cfg := snapshot.Config{Image: snapshot.Image{ID: imageID, Arch: "amd64"}, Run: run(), Host: snapshot.Host{Host: criu.Host{CRIU: "99.0"}}}
	var misfit *Misfit
	require.ErrorAs(t, Fit(cfg, image.InspectResponse{ID: imageID.String(), Architecture: "amd64"}, run(), criu.Host{CRIU: "4.2"}), &misfit)
	require.Equal(t, "host", misfit.Field)
	require.Contains(t, misfit.Reason, "99.0")
}

func TestOptionsThatMeanNothing(t *testing.T) {
	spec := engine.Spec{Config: &container.Config{Image: "web"}}
	require.NoError(t, Options{Spec: spec, Policy: PolicyNever}.validate(), "a cold boot needs no store")
	for reason, o := range map[string]Options{
		"name the image to start":                                {Policy: PolicyNever},
		`policy = "sometimes": want never, if_present or always`: {Spec: spec, Policy: "sometimes"},
		`policy = "always" needs a store and a cache`:            {Spec: spec, Policy: PolicyAlways},
	} {
		require.ErrorContains(t, o.validate(), reason)
	}
}

func TestHostnameIsWhatTheEngineWillSay(t *testing.T) {
	const id = "0123456789abcdef0123"
	for want, spec := range map[string]engine.Spec{
		"0123456789ab": {Config: &container.Config{}},
		"web-1":        {Config: &container.Config{Hostname: "web-1"}, Host: &container.HostConfig{}},
		"":             {Config: &container.Config{}, Host: &container.HostConfig{UTSMode: "host"}},
	} {
		got, err := (&start{opts: Options{Spec: spec}}).hostname(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}
