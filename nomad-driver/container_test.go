package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
)

const allocID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"

// newRequest turns a task into a request, as StartTask does.
func newRequest(t *testing.T, plugin, task string, edit ...func(*drivers.TaskConfig)) (*request, error) {
	t.Helper()
	s, err := parsePlugin(t, plugin)
	require.NoError(t, err)
	cfg := &drivers.TaskConfig{
		ID: "task-id", AllocID: allocID, Name: "web", JobName: "shop", JobID: "shop", NodeID: "node",
		AllocDir: "/srv/alloc",
		Env:      map[string]string{"NOMAD_ALLOC_DIR": "/alloc", "NOMAD_TASK_DIR": "/local", "NOMAD_SECRETS_DIR": "/secrets", "LANG": "C"},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{Memory: structs.AllocatedMemoryResources{MemoryMB: 100}},
			LinuxResources: &drivers.LinuxResources{CPUShares: 250, PercentTicks: 0.5},
			Ports:          &structs.AllocatedPorts{{Label: "http", Value: 20000, To: 80, HostIP: "10.0.0.1"}, {Label: "raw", Value: 20001, HostIP: "10.0.0.1"}},
		},
	}
	for _, e := range edit {
		e(cfg)
	}
	return buildRequest(cfg, parseTask(t, "image = \"img:1\"\n"+task), s)
}

func mustRequest(t *testing.T, plugin, task string, edit ...func(*drivers.TaskConfig)) *request {
	t.Helper()
	r, err := newRequest(t, plugin, task, edit...)
	require.NoError(t, err)
	return r
}

// Nomad's docker driver, on the same engine, removes what it takes for a container of its own.
func TestNoContainerLooksLikeOneOfTheDockerDriver(t *testing.T) {
	theirs := regexp.MustCompile(`\/.*-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`) // its reconcile_dangling.go
	require.True(t, theirs.MatchString("/web-"+allocID))
	require.False(t, theirs.MatchString("/"+mustRequest(t, "", "").spec.Name))
	require.False(t, theirs.MatchString("/"+sandboxName(allocID)))

	_, err := newRequest(t, "", "", func(cfg *drivers.TaskConfig) { cfg.Name = "copy-" + allocID })
	require.ErrorContains(t, err, "give the task another name")
	_, err = newRequest(t, "", `labels = { "com.hashicorp.nomad.alloc_id" = "x" }`)
	require.ErrorContains(t, err, `labels has com.hashicorp.nomad.alloc_id = "x"`)
}

// A removal from outside kills the container: its exit code alone would not say why.
func TestRemovalBySomebodyElseIsSaid(t *testing.T) {
	result, _ := exitResult(&container.State{Status: container.StateRemoving, ExitCode: 137})
	require.ErrorIs(t, result.Err, errVanished)
	require.Equal(t, 137, result.ExitCode)
	result, _ = exitResult(&container.State{Status: container.StateExited, ExitCode: 137})
	require.NoError(t, result.Err)
}

// A task that asks for nothing gets what Nomad's docker driver gives: the fingerprint of every snapshot that is built for
// Nomad depends on it.
func TestDefaultRequest(t *testing.T) {
	r := mustRequest(t, "", "")
	require.Equal(t, "nomad-web-"+strings.ReplaceAll(allocID, "-", "")+"-criu", r.spec.Name)
	c, h := r.spec.Config, r.spec.Host
	require.Equal(t, "web-0f1e2d3c", c.Hostname)
	require.Equal(t, "img:1", c.Image)
	require.Empty(t, c.Cmd)
	require.Empty(t, c.Entrypoint)
	require.Contains(t, c.Env, "LANG=C")
	require.Equal(t, map[string]string{labelAllocID: allocID, labelTaskID: "task-id", labelNodeID: "node"}, c.Labels)
	require.Equal(t, []string{"/srv/alloc/alloc:/alloc", "/srv/alloc/web/local:/local", "/srv/alloc/web/secrets:/secrets"}, h.Binds)
	require.EqualValues(t, "bridge", h.NetworkMode)
	require.EqualValues(t, 100<<20, h.Memory)
	require.EqualValues(t, 100<<20, h.MemorySwap)
	require.Zero(t, h.MemoryReservation)
	require.EqualValues(t, 250, h.CPUShares)
	require.Zero(t, h.CPUQuota)
	require.Nil(t, h.PidsLimit)
	require.Empty(t, h.CapAdd)
	require.EqualValues(t, []string{"NET_RAW"}, h.CapDrop)
	require.Equal(t, container.LogConfig{Type: "json-file", Config: map[string]string{"max-file": "2", "max-size": "2m"}}, h.LogConfig)
	require.Nil(t, r.spec.Network)

	run, err := engine.Effective(r.spec, image.InspectResponse{ID: "sha256:" + strings.Repeat("0", 64)})
	require.NoError(t, err)
	require.Len(t, run.Env, 1, "of Nomad's variables none takes part in a snapshot's identity")
	require.Len(t, run.Mounts, 3)
}

func TestCommand(t *testing.T) {
	c := mustRequest(t, "", `
		entrypoint  = ["/bin/sh"]
		command     = "-c"
		args        = ["true"]
		work_dir    = "/srv"
		init        = true
		tty         = true
		interactive = true
		hostname    = "shop"`, func(cfg *drivers.TaskConfig) { cfg.User = "1000:1000" })
	require.EqualValues(t, []string{"/bin/sh"}, c.spec.Config.Entrypoint)
	require.EqualValues(t, []string{"-c", "true"}, c.spec.Config.Cmd)
	require.Equal(t, "/srv", c.spec.Config.WorkingDir)
	require.Equal(t, "1000:1000", c.spec.Config.User)
	require.Equal(t, "shop", c.spec.Config.Hostname)
	require.True(t, c.spec.Config.Tty)
	require.True(t, c.spec.Config.OpenStdin)
	require.True(t, *c.spec.Host.Init)
}

func TestAllocHostname(t *testing.T) {
	for name, want := range map[string]string{
		"web":                         "web-0f1e2d3c",
		"Web_Server.1":                "web-server-1-0f1e2d3c",
		"-_-":                         "0f1e2d3c",
		strings.Repeat("a", 80):       strings.Repeat("a", 54) + "-0f1e2d3c",
		"x/" + strings.Repeat("é", 5): "x-0f1e2d3c",
	} {
		got := allocHostname(name, allocID)
		require.Equal(t, want, got, name)
		require.LessOrEqual(t, len(got), 63)
	}
}

func TestPorts(t *testing.T) {
	r := mustRequest(t, "", `ports = ["http", "raw/udp"]`)
	require.Equal(t, map[string]int{"http": 80, "raw": 20001}, r.ports)
	require.Equal(t, nat.PortMap{
		"80/tcp":    {{HostIP: "10.0.0.1", HostPort: "20000"}},
		"80/udp":    {{HostIP: "10.0.0.1", HostPort: "20000"}},
		"20001/udp": {{HostIP: "10.0.0.1", HostPort: "20001"}},
	}, r.spec.Host.PortBindings)
	require.Len(t, r.spec.Config.ExposedPorts, 3)

	r = mustRequest(t, "", "ports = [\"http\"]\nnetwork_mode = \"host\"")
	require.Empty(t, r.spec.Host.PortBindings)

	_, err := newRequest(t, "", `ports = ["db"]`)
	require.ErrorContains(t, err, `ports has "db", which the group does not allocate`)
	_, err = newRequest(t, "", `ports = ["http/sctp"]`)
	require.ErrorContains(t, err, `ports has "http/sctp"`)
	_, err = newRequest(t, "", `ports = ["http"]`, func(cfg *drivers.TaskConfig) { cfg.Resources.Ports = nil })
	require.ErrorContains(t, err, "allocates no ports")
}

func TestGroupNetwork(t *testing.T) {
	join := func(cfg *drivers.TaskConfig) {
		cfg.NetworkIsolation = &drivers.NetworkIsolationSpec{Labels: map[string]string{sandboxLabel: "abc"}}
	}
	r := mustRequest(t, "", `ports = ["http"]`, join)
	require.EqualValues(t, "container:abc", r.spec.Host.NetworkMode)
	require.Empty(t, r.spec.Config.Hostname, "the engine refuses a hostname for a container that shares another's network")
	require.Empty(t, r.spec.Host.PortBindings)
	require.Empty(t, r.spec.Config.ExposedPorts)

	_, err := newRequest(t, "", `dns_servers = ["10.0.0.53"]`, join)
	require.ErrorContains(t, err, "dns block of the group's network")
	_, err = newRequest(t, "", `network_aliases = ["db"]`, join)
	require.ErrorContains(t, err, "need a network of the container's own")

	r = mustRequest(t, "", `extra_hosts = ["db:10.0.0.2"]`, join)
	require.Empty(t, r.spec.Host.ExtraHosts, "they go into the group's hosts file")
	_, err = newRequest(t, "", `extra_hosts = ["db:host-gateway"]`, join)
	require.ErrorContains(t, err, "want HOST:IP in a group network")
	_, err = newRequest(t, "", "extra_hosts = [\"db:10.0.0.2\"]\nnetwork_mode = \"container:abc\"")
	require.ErrorContains(t, err, "extra_hosts has no meaning")
	_, err = newRequest(t, "", `extra_hosts = ["db:10.0.0.2\n10.0.0.3 www"]`, join)
	require.ErrorContains(t, err, "want HOST:IP")
}

func TestNetworkSettings(t *testing.T) {
	r := mustRequest(t, "", `
		network_mode       = "backend"
		network_aliases    = ["db"]
		ipv4_address       = "172.20.0.9"
		dns_servers        = ["10.0.0.53"]
		dns_search_domains = ["lan"]
		extra_hosts        = ["db:10.0.0.2"]`)
	e := r.spec.Network.EndpointsConfig["backend"]
	require.Equal(t, []string{"db"}, e.Aliases)
	require.Equal(t, "172.20.0.9", e.IPAMConfig.IPv4Address)
	require.Equal(t, []string{"10.0.0.53"}, r.spec.Host.DNS)
	require.Equal(t, []string{"lan"}, r.spec.Host.DNSSearch)
	require.Equal(t, []string{"db:10.0.0.2"}, r.spec.Host.ExtraHosts)

	_, err := newRequest(t, "", `extra_hosts = ["db"]`)
	require.ErrorContains(t, err, `extra_hosts has "db": want HOST:IP`)
}

func TestResources(t *testing.T) {
	r := mustRequest(t, "pids_limit = 200", `
		memory_hard_limit = 150
		cpu_hard_limit    = true
		ulimit            = { nofile = "2048:4096", nproc = "42" }`,
		func(cfg *drivers.TaskConfig) { cfg.Resources.LinuxResources.CpusetCpus = "1" })
	require.EqualValues(t, 150<<20, r.spec.Host.Memory)
	require.EqualValues(t, 100<<20, r.spec.Host.MemoryReservation)
	require.EqualValues(t, 100000, r.spec.Host.CPUPeriod)
	require.Positive(t, r.spec.Host.CPUQuota)
	require.Equal(t, "1", r.spec.Host.CpusetCpus)
	require.EqualValues(t, 200, *r.spec.Host.PidsLimit)
	require.Equal(t, []*container.Ulimit{{Name: "nofile", Soft: 2048, Hard: 4096}, {Name: "nproc", Soft: 42, Hard: 42}}, r.spec.Host.Ulimits)

	unlimited := mustRequest(t, "", "", func(cfg *drivers.TaskConfig) { cfg.Resources.NomadResources.Memory.MemoryMaxMB = -1 })
	require.Zero(t, unlimited.spec.Host.Memory)
	require.Zero(t, unlimited.spec.Host.MemorySwap)
	require.EqualValues(t, 100<<20, unlimited.spec.Host.MemoryReservation)

	for _, c := range []struct{ plugin, task, says string }{
		{"pids_limit = 10", "pids_limit = 11", "pids_limit = 11 exceeds the 10"},
		{"", "memory_hard_limit = 50", "memory_hard_limit = 50 is below the memory = 100"},
		{"", "oom_score_adj = -5", "oom_score_adj = -5: want 0 to 1000"},
		{"", `ulimit = { nofile = "many" }`, `ulimit nofile = "many": want`},
		{"", "cpu_hard_limit = true\ncpu_cfs_period = 10", "cpu_cfs_period = 10: want 1000 to 1000000"},
		{"", `devices = [{ host_path = "/dev/null", cgroup_permissions = "rx" }]`, `cgroup_permissions = "rx"`},
	} {
		_, err := newRequest(t, c.plugin, c.task)
		require.ErrorContains(t, err, c.says)
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		name, plugin, task string
		add, drop          []string
		says               string
	}{
		{name: "the engine's default is allowed", plugin: `allow_caps = ["all"]`},
		{name: "drop", task: `cap_drop = ["mknod"]`, drop: []string{"MKNOD", "NET_RAW"}},
		{name: "add", plugin: `allow_caps = ["all"]`, task: `cap_add = ["CAP_SYS_TIME"]`, add: []string{"SYS_TIME"}},
		{name: "add what is there", task: `cap_add = ["chown"]`, drop: []string{"NET_RAW"}},
		{
			name: "drop all but one", plugin: `allow_caps = ["chown", "kill"]`, task: "cap_drop = [\"all\"]\ncap_add = [\"kill\"]",
			drop: []string{
				"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
				"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
			},
		},
		{name: "add what is not allowed", task: `cap_add = ["net_raw"]`, says: "cap_add asks for net_raw"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := newRequest(t, c.plugin, c.task)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, c.add, r.spec.Host.CapAdd)
			require.EqualValues(t, c.drop, r.spec.Host.CapDrop)
		})
	}
}

func TestPrivileges(t *testing.T) {
	for _, task := range []string{`privileged = true`, `pid_mode = "host"`, `ipc_mode = "host"`, `uts_mode = "host"`} {
		_, err := newRequest(t, "", task)
		require.ErrorContains(t, err, "is not allowed on this client", task)
		mustRequest(t, "allow_privileged = true", task)
	}
	r := mustRequest(t, "allow_privileged = true", `privileged = true`)
	require.True(t, r.spec.Host.Privileged)
	require.Empty(t, r.spec.Host.CapDrop)
}

func TestSeccompProfileFromFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "profile.json")
	require.NoError(t, os.WriteFile(file, []byte("{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n"), 0o600))
	r := mustRequest(t, "", fmt.Sprintf(`security_opt = ["no-new-privileges", "seccomp=%s"]`, file))
	require.Equal(t, []string{"no-new-privileges", `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}, r.spec.Host.SecurityOpt)
	_, err := newRequest(t, "", `security_opt = ["seccomp=/nowhere.json"]`)
	require.ErrorContains(t, err, `security_opt has "seccomp=/nowhere.json"`)
}

func TestMounts(t *testing.T) {
	r := mustRequest(t, "volumes {\n enabled = true\n selinuxlabel = \"z\"\n}", `
		volumes = ["/srv/data:/data:ro", "local/x:/x"]
		mount {
			type     = "bind"
			target   = "/etc/app"
			source   = "local/conf"
			readonly = true
			bind_options { propagation = "rslave" }
		}
		mounts = [{ type = "tmpfs", target = "/scratch", tmpfs_options = { size = 1024 } }]`,
		func(cfg *drivers.TaskConfig) {
			cfg.Mounts = []*drivers.MountConfig{{HostPath: "/srv/vol", TaskPath: "/vol", Readonly: true, PropagationMode: "host-to-task"}}
		})
	require.Equal(t, []string{
		"/srv/alloc/alloc:/alloc:z", "/srv/alloc/web/local:/local:z", "/srv/alloc/web/secrets:/secrets:z",
		"/srv/data:/data:ro,z", "/srv/alloc/web/local/x:/x:z",
	}, r.spec.Host.Binds)
	require.Equal(t, []mount.Mount{
		{Type: mount.TypeBind, Source: "/srv/alloc/web/local/conf", Target: "/etc/app", ReadOnly: true, BindOptions: &mount.BindOptions{Propagation: "rslave"}},
		{Type: mount.TypeTmpfs, Target: "/scratch", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1024}},
		{Type: mount.TypeBind, Source: "/srv/vol", Target: "/vol", ReadOnly: true, BindOptions: &mount.BindOptions{Propagation: "rslave"}},
	}, r.spec.Host.Mounts)

	for _, c := range []struct{ task, says string }{
		{`volumes = ["/srv/data:/data"]`, "does not allow that"},
		{`volumes = ["../../other:/data"]`, "does not allow that"},
		{"volumes = [\"name:/data\"]\nvolume_driver = \"pxd\"", "does not allow that"},
		{"mount {\n target = \"/data\"\n volume_options { driver_config { options { device = \"/etc\" } } }\n}", "does not allow that"},
		{`volumes = ["/srv/data"]`, "want SOURCE:TARGET"},
		{"mount {\n type = \"npipe\"\n target = \"/data\"\n}", `has the type "npipe"`},
		{"mount {\n target = \"data\"\n}", "want an absolute path"},
	} {
		_, err := newRequest(t, "", c.task)
		require.ErrorContains(t, err, c.says, c.task)
	}
}

// A task may leave symbolic links in its directories; they do not lead out of them at its next start.
func TestMountsDoNotFollowLinksOut(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "web/local"), 0o755))
	require.NoError(t, os.Symlink("/etc", filepath.Join(dir, "web/local/link")))
	r := mustRequest(t, "", `volumes = ["local/link/app:/data"]`, func(cfg *drivers.TaskConfig) { cfg.AllocDir = dir })
	require.Equal(t, filepath.Join(dir, "etc/app")+":/data", r.spec.Host.Binds[3])
}

func TestExtraLabels(t *testing.T) {
	r := mustRequest(t, `extra_labels = ["job*", "task_name"]`, "")
	require.Equal(t, "shop", r.spec.Config.Labels["com.hashicorp.nomad.job_name"])
	require.Equal(t, "shop", r.spec.Config.Labels["com.hashicorp.nomad.job_id"])
	require.Equal(t, "web", r.spec.Config.Labels["com.hashicorp.nomad.task_name"])
	require.NotContains(t, r.spec.Config.Labels, "com.hashicorp.nomad.namespace")
}

func TestLogging(t *testing.T) {
	for task, want := range map[string]container.LogConfig{
		``:                                 {Type: "json-file", Config: map[string]string{"max-file": "1"}},
		"logging {\n type = \"local\"\n}":  {Type: "local"},
		"logging {\n driver = \"none\"\n}": {Type: "none"},
		"logging {\n config { max-size = \"9m\" }\n}": {Type: "json-file", Config: map[string]string{"max-size": "9m"}},
	} {
		r := mustRequest(t, "logging {\n config { max-file = \"1\" }\n}", task)
		require.Equal(t, want, r.spec.Host.LogConfig, task)
	}
}

func TestIsLatest(t *testing.T) {
	for ref, want := range map[string]bool{
		"redis": true, "redis:latest": true, "reg.example:5000/redis": true,
		"redis:7": false, "redis@sha256:" + strings.Repeat("a", 64): false, "sha256:" + strings.Repeat("a", 64): false,
	} {
		require.Equal(t, want, isLatest(ref), ref)
	}
}

func TestShellQuote(t *testing.T) {
	require.Equal(t, `'it'\''s $HOME'`, shellQuote("it's $HOME"))
}
