package main

import (
	"context"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
)

func TestOptionsOfEverything(t *testing.T) {
	c := config{
		"image":        "web:1",
		"entrypoint":   list{"/entry"},
		"command":      list{"serve", "-v"},
		"env":          object{"B": "2", "A": "1"},
		"user":         "1000:1000",
		"working_dir":  "/app",
		"hostname":     "donor",
		"ports":        list{"3000", "53/udp"},
		"network_mode": "none",
		"nomad":        true,
		"cpu":          "x86-64-v3",
		"profile":      false,
		"mounts": list{
			object{"destination": "/z", "type": "tmpfs"},
			object{"destination": "/a", "type": "bind", "source": "/srv", "read_only": true},
		},
		"security": object{
			"privileged": false, "readonly_rootfs": true, "init": true,
			"cap_add": list{"NET_ADMIN"}, "cap_drop": list{"ALL"}, "security_opt": list{"no-new-privileges"}, "group_add": list{"audio"},
			"ipc_mode": "private", "pid_mode": "host", "uts_mode": "host", "userns_mode": "host", "cgroupns_mode": "private",
			"ulimits": object{"nproc": "10", "nofile": "1024:4096"}, "sysctls": object{"net.core.somaxconn": "1024"},
		},
		"resources": object{"memory": 512, "cpus": 1.5, "cpu_shares": 300, "cpu_set": "0-1"},
		"ready":     object{"http": object{"port": 3000, "path": "/up", "status": 204}, "interval": "50ms", "timeout": "90s"},
		"warm_up":   list{object{"path": "/login", "method": "POST", "port": 3001, "header": object{"X": "y"}, "body": "b", "status": 302, "count": 3}},
		"hooks": object{
			"before_freeze": list{object{"exec": object{"command": list{"/bin/gc", "-a"}}, "timeout": "30s"}},
			"after_restore": list{object{"signal": "USR1"}, object{"http": object{"port": 3000}}},
		},
		"checkpoint": object{"tcp": "established", "file_locks": false, "ghost_limit": 5, "ext_unix_sk": true, "link_remap": true},
	}
	yes := true
	want := build.Options{
		Spec: engine.Spec{
			Config: &container.Config{
				Image:        "web:1",
				Entrypoint:   []string{"/entry"},
				Cmd:          []string{"serve", "-v"},
				Env:          []string{"A=1", "B=2"},
				User:         "1000:1000",
				WorkingDir:   "/app",
				Hostname:     "donor",
				ExposedPorts: nat.PortSet{"3000/tcp": {}, "53/udp": {}},
			},
			Host: &container.HostConfig{
				NetworkMode:    "none",
				ReadonlyRootfs: true,
				Init:           &yes,
				CapAdd:         []string{"NET_ADMIN"},
				CapDrop:        []string{"ALL"},
				SecurityOpt:    []string{"no-new-privileges"},
				GroupAdd:       []string{"audio"},
				IpcMode:        "private",
				PidMode:        "host",
				UTSMode:        "host",
				UsernsMode:     "host",
				CgroupnsMode:   "private",
				Sysctls:        map[string]string{"net.core.somaxconn": "1024"},
				Resources: container.Resources{
					Ulimits: []*units.Ulimit{{Name: "nofile", Soft: 1024, Hard: 4096}, {Name: "nproc", Soft: 10, Hard: 10}},
					Memory:  512 << 20, NanoCPUs: 1.5e9, CPUShares: 300, CpusetCpus: "0-1",
				},
				Mounts: []mount.Mount{
					{Type: mount.TypeBind, Source: "/srv", Target: "/a", ReadOnly: true},
					{Type: mount.TypeTmpfs, Target: "/z"},
				},
			},
		},
		Ready: build.Probe{Type: build.ProbeHTTP, Port: 3000, Path: "/up", Status: 204, Interval: 50 * time.Millisecond, Timeout: 90 * time.Second},
		Warmup: []build.WarmupRequest{
			{Method: "POST", Port: 3001, Path: "/login", Header: map[string]string{"X": "y"}, Body: "b", Status: 302, Count: 3},
		},
		Hooks: hook.Hooks{
			BeforeFreeze: []hook.Hook{{Type: hook.Exec, Command: []string{"/bin/gc", "-a"}, Timeout: 30 * time.Second}},
			AfterRestore: []hook.Hook{{Type: hook.Signal, Signal: "USR1"}, {Type: hook.HTTP, Port: 3000, Path: "/"}},
		},
		Checkpoint: criu.Options{TCP: criu.TCPEstablished, GhostLimit: 5, ExtUnixSk: true, LinkRemap: true},
		CPU:        "x86-64-v3",
		Nomad:      true,
		NoProfile:  true,
	}
	check(t, c, want)
}

func TestOptionsLeaveDefaultsToTheImage(t *testing.T) {
	check(t, minimal(), build.Options{
		Spec:       engine.Spec{Config: &container.Config{Image: "web:1"}, Host: &container.HostConfig{}},
		Ready:      build.Probe{Type: build.ProbeTCP, Port: 80},
		Checkpoint: criu.DefaultOptions(),
	})
}

func TestOptionsOfProbes(t *testing.T) {
	for _, tc := range []struct {
		ready object
		want  build.Probe
	}{
		{object{"http": object{"port": 80}}, build.Probe{Type: build.ProbeHTTP, Port: 80, Path: "/"}},
		{object{"exec": object{"command": list{"test", "-e", "/up"}}}, build.Probe{Type: build.ProbeExec, Command: []string{"test", "-e", "/up"}}},
		{object{"log": object{"pattern": "^up"}}, build.Probe{Type: build.ProbeLog, Pattern: "^up"}},
	} {
		opts, diags := minimal().with("ready", tc.ready).model(t).options(context.Background())
		if diags.HasError() {
			t.Fatalf("%v", diags)
		}
		if diff := cmp.Diff(tc.want, opts.Ready); diff != "" {
			t.Errorf("%v: -want +got\n%s", tc.ready, diff)
		}
	}
}

func check(t *testing.T, c config, want build.Options) {
	t.Helper()
	got, diags := c.model(t).options(context.Background())
	if diags.HasError() {
		t.Fatalf("%v", diags)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
