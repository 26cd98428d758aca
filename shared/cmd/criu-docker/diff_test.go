package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// frozenWeb is a snapshot with something of everything that is compared.
func frozenWeb() compared {
	return compared{
		side: side{Digest: "sha256:a"},
		config: snapshot.Config{
			Image: snapshot.Image{Reference: "web:1", ID: "sha256:1", Arch: "amd64"},
			Run: snapshot.RunConfig{
				Args: []string{"/app", "a b"}, Env: map[string]string{"PASSWORD": "1111111111111111", "MODE": "2222222222222222", "OLD": "3333333333333333"},
				Mounts:   []snapshot.Mount{{Destination: "/data", Type: "bind"}},
				Security: snapshot.Security{Capabilities: []string{"CAP_CHOWN", "CAP_KILL"}, Sysctls: map[string]string{"net.x": "1"}},
			},
			Host:       snapshot.Host{Host: criu.Host{CRIU: "4.2.1", CPUFeatures: []string{"avx", "avx2"}}},
			Checkpoint: criu.DefaultOptions(),
			Hooks:      hook.Hooks{AfterRestore: []hook.Hook{{Type: hook.Signal, Signal: "HUP"}}},
			Processes: []criu.Process{{PID: 1, Command: "app", RSS: 4096, Children: []criu.Process{
				{PID: 7, Command: "app", RSS: 8192}, {PID: 8, Command: "log", RSS: 4096},
			}}},
			Sockets: []criu.Socket{
				{PID: 1, Protocol: "tcp", State: "LISTEN", Source: "0.0.0.0:80"},
				{PID: 7, Protocol: "tcp", State: "LISTEN", Source: "0.0.0.0:80"},
				{PID: 1, Protocol: "tcp", State: "ESTABLISHED", Source: "172.17.0.2:999", Dest: "172.17.0.1:5432"},
			},
			Sizes:   snapshot.Sizes{Memory: 16384},
			Timings: []snapshot.Timing{{Step: "boot", Elapsed: time.Second}},
		},
		layers: []ocispec.Descriptor{{MediaType: snapshot.MediaTypePages, Size: 100}},
		files:  []snapshot.LayerFile{{Path: "/run/app.pid", Mode: 0o644, Size: 2, Content: "sha256:x"}, {Path: "/etc/motd", Deleted: true}},
	}
}

func TestDiff(t *testing.T) {
	none := diffed{}
	none.compare(frozenWeb(), frozenWeb())
	require.Empty(t, none.Changes)
	require.Empty(t, none.Notes)

	for name, test := range map[string]struct {
		change func(*compared)
		want   []difference
	}{
		"environment": {
			func(c *compared) {
				c.config.Run.Env = map[string]string{"PASSWORD": "9", "MODE": "2222222222222222", "NEW": "4"}
			},
			[]difference{{sectionEnv, "NEW", added, nil, nil}, {sectionEnv, "PASSWORD", changed, nil, nil}, {sectionEnv, "OLD", removed, nil, nil}},
		},
		"words of the command": {
			func(c *compared) { c.config.Run.Args = []string{"/app", "a", "b"} },
			[]difference{{sectionRun, "command", changed, "/app a b", "/app a b"}},
		},
		"user":    {func(c *compared) { c.config.Run.User = "5" }, []difference{{sectionRun, "user", changed, "root", "5"}}},
		"workdir": {func(c *compared) { c.config.Run.WorkingDir = "/srv" }, []difference{{sectionRun, "working directory", changed, "/", "/srv"}}},
		"mounts": {
			func(c *compared) { c.config.Run.Mounts[0].ReadOnly = true },
			[]difference{{sectionMounts, "/data", changed, "bind, read-write", "bind, read-only"}},
		},
		"security": {
			func(c *compared) {
				c.config.Run.Security = snapshot.Security{Privileged: true, Capabilities: []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}, Sysctls: map[string]string{"net.x": "2"}}
			},
			[]difference{
				{sectionSecurity, "capabilities CAP_SYS_ADMIN", added, nil, nil},
				{sectionSecurity, "privileged", added, nil, "true"},
				{sectionSecurity, "sysctls net.x", changed, "1", "2"},
				{sectionSecurity, "capabilities CAP_KILL", removed, nil, nil},
			},
		},
		"hooks": {
			func(c *compared) { c.config.Hooks.AfterRestore[0].Timeout = time.Minute },
			[]difference{{sectionHooks, "after restore", changed, "signal:HUP", "signal:HUP"}},
		},
		"options": {
			func(c *compared) { c.config.Checkpoint.TCP = criu.TCPEstablished },
			[]difference{{sectionOptions, "tcp", changed, "close", "established"}},
		},
		"host": {
			func(c *compared) { c.config.Host.CRIU, c.config.Host.CPUFeatures = "4.3", []string{"avx"} },
			[]difference{{sectionHost, "criu", changed, "4.2.1", "4.3"}, {sectionHost, "cpu_features avx2", removed, nil, nil}},
		},
		"processes": {
			func(c *compared) {
				c.config.Processes[0].Children = []criu.Process{{PID: 9, Command: "app", RSS: 12288}, {PID: 10, Command: "app", RSS: 4096}}
			},
			[]difference{
				{sectionProcesses, "app #2", changed, int64(8192), int64(12288)},
				{sectionProcesses, "app #3", added, nil, int64(4096)},
				{sectionProcesses, "log", removed, int64(4096), nil},
			},
		},
		"sockets": {
			func(c *compared) {
				c.config.Sockets = append(c.config.Sockets[:2:2], criu.Socket{Protocol: "udp", State: "CLOSE", Source: "0.0.0.0:53"})
			},
			[]difference{{sectionSockets, "udp 0.0.0.0:53", added, nil, nil}},
		},
		"files": {
			func(c *compared) {
				c.files = []snapshot.LayerFile{{Path: "/run/app.pid", Mode: 0o600, Size: 3, Content: "sha256:y"}, {Path: "/tmp", Opaque: true, Mode: fs.ModeDir}}
			},
			[]difference{
				{sectionFiles, "/run/app.pid", changed, "-rw-r--r-- 0:0, 2 bytes", "-rw------- 0:0, 3 bytes"},
				{sectionFiles, "/tmp/*", added, nil, "deleted from the image"},
				{sectionFiles, "/etc/motd", removed, "deleted from the image", nil},
			},
		},
		"content": {
			func(c *compared) { c.files[0].Content = "sha256:y" },
			[]difference{{sectionFiles, "/run/app.pid", changed, "-rw-r--r-- 0:0, 2 bytes", "-rw-r--r-- 0:0, 2 bytes"}},
		},
		"found": {
			func(c *compared) { c.config.Generators = []string{"Ruby"} },
			[]difference{{sectionFound, "generators Ruby", added, nil, nil}},
		},
		"costs": {
			func(c *compared) {
				c.config.Sizes.Memory, c.layers[0].Size, c.config.Timings[0].Elapsed = 20480, 120, 2*time.Second
			},
			[]difference{
				{sectionSizes, "memory", changed, int64(16384), int64(20480)},
				{sectionLayers, "other memory", changed, int64(100), int64(120)},
				{sectionTimings, "boot", changed, time.Second, 2 * time.Second},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, other := diffed{}, frozenWeb()
			test.change(&other)
			d.compare(frozenWeb(), other)
			require.Equal(t, test.want, d.Changes)
		})
	}
}

// Hashes of values depend on the image: those of two images say nothing about each other.
func TestDiffOfTwoImages(t *testing.T) {
	d, other := diffed{}, frozenWeb()
	other.config.Image.ID = "sha256:2"
	other.config.Run.Env = map[string]string{"PASSWORD": "7777777777777777", "MODE": "8888888888888888", "NEW": "9999999999999999"}
	d.compare(frozenWeb(), other)
	require.Equal(t, []difference{
		{sectionImage, "id", changed, "sha256:1", "sha256:2"},
		{sectionEnv, "NEW", added, nil, nil},
		{sectionEnv, "OLD", removed, nil, nil},
	}, d.Changes)
	require.Len(t, d.Notes, 1)
}

func TestDiffPrints(t *testing.T) {
	d, other := diffed{}, frozenWeb()
	other.config.Run.Env["PASSWORD"] = "7777777777777777"
	other.config.Processes[0].Command = "\x1b[2Jevil\n"
	other.config.Sizes.Memory = 20480
	d.compare(frozenWeb(), other)
	var out, errs bytes.Buffer
	a := &app{stdout: &out, stderr: &errs}
	require.NoError(t, a.printDiff(d))
	for _, want := range []string{"~ PASSWORD", "has changed", "16KiB → 20KiB (+4KiB)", "�[2Jevil�"} {
		require.Contains(t, out.String(), want)
	}
	b, err := json.Marshal(d)
	require.NoError(t, err)
	for _, hash := range []string{"1111111111111111", "7777777777777777"} {
		require.NotContains(t, out.String()+string(b), hash, "nor are hashes of values printed")
	}
	out.Reset()
	require.NoError(t, a.printDiff(diffed{}))
	require.Contains(t, out.String(), "No differences")
}

// Two builds of one image, started otherwise.
func TestDiffOfTwoBuilds(t *testing.T) {
	p := newProgram(t)
	script := "echo $MODE >/written; exec httpd -f -p 80 -h /www"
	from := p.ok(p.buildArgs("-e", "MODE=a", "-e", "API_TOKEN=from here", "--", "/bin/sh", "-c", script)...)
	to := p.ok(p.buildArgs("-e", "MODE=longer", "-e", "API_TOKEN=to there", "-e", "MORE=1", "--", "/bin/sh", "-c", "httpd -p 81; touch /new; "+script)...)

	d := documents[diffed](t, p.ok("diff", from, to, "--json"))[0]
	require.Equal(t, from, d.From.Ref)
	require.Equal(t, to, d.To.Ref)
	found := map[string]difference{}
	for _, c := range d.Changes {
		found[c.Section+" "+c.Name] = c
	}
	for name, change := range map[string]string{
		"environment MODE": changed, "environment API_TOKEN": changed, "environment MORE": added, "run command": changed,
		"files /written": changed, "files /new": added, "sockets tcp [::]:81": added, "processes httpd #2": added, "sizes memory": changed,
	} {
		require.Equal(t, change, found[name].Change, "%s of %v", name, d.Changes)
	}
	require.Contains(t, found["files /written"].From, "2 bytes")
	require.Contains(t, found["files /written"].To, "7 bytes")
	require.NotContains(t, found, "environment PATH")
	require.NotContains(t, found, "image id")

	text := p.ok("diff", from, to)
	for _, want := range []string{"~ API_TOKEN", "+ MORE", "~ /written", "+ tcp [::]:81", "timings"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "to there")
	require.Contains(t, p.ok("diff", from, from), "No differences")
	require.Equal(t, exitNotFound, p.call("diff", from, "0123/4567").code)
}
