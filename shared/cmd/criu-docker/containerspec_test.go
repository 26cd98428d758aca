package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// What a flag means is what docker makes of it: containers that docker create and our own request create from the same
// flags must be the same.
func TestFlagsMeanWhatDockerMeans(t *testing.T) {
	ctx := context.Background()
	eng, err := engine.Connect(ctx, "")
	require.NoError(t, err)
	defer eng.Close()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	envFile := write("env", "# comment\nA=1\nB=two words\nPASSED_ON\n")
	labelFile := write("labels", "team=web\nempty\n")
	seccomp := write("seccomp.json", `{"defaultAction": "SCMP_ACT_ALLOW"}`)
	t.Setenv("PASSED_ON", "from outside")
	t.Setenv("ALSO", "this")
	network := "criu-docker-flags-test"
	docker(t, "network", "rm", "-f", network) // of a run that was killed
	docker(t, "network", "create", "--subnet", "10.213.7.0/24", network)
	t.Cleanup(func() { docker(t, "network", "rm", network) })

	for name, flags := range map[string]string{
		"none":         "",
		"process":      "-e X=1 -e ALSO --env-file " + envFile + " -u 1000:1000 -w /srv --hostname web --init --stop-signal SIGINT --stop-timeout 3 -t",
		"short host":   "-h web",
		"entrypoint":   "--entrypoint /bin/sh",
		"no entry":     "--entrypoint=",
		"labels":       "-l a=1 --label b --label-file " + labelFile,
		"ports":        "-p 80 -p 127.0.0.1:18443:443/tcp -p 5000-5002:6000-6002/udp --expose 9000-9001 --expose 53/udp -P",
		"networks":     "--network " + network + " --network-alias db --network-alias cache --dns 10.0.0.1 --dns-search lan --dns-option ndots:1 --add-host a:10.0.0.2",
		"long network": "--network name=" + network + ",alias=x,ip=10.213.7.77",
		"host network": "--network host",
		"volumes":      "-v " + dir + ":/data:ro -v named-by-flags-test:/cache -v /anonymous --tmpfs /tmp:size=1m --tmpfs /run --read-only --shm-size 16m",
		"mounts":       "--mount type=bind,source=" + dir + ",target=/data,readonly --mount type=tmpfs,target=/t,tmpfs-size=1048576,tmpfs-mode=1777",
		"security":     "--cap-add NET_ADMIN --cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=" + seccomp + " --group-add 100",
		"privileged":   "--privileged --ipc host --pid host --uts host --cgroupns private",
		"kernel":       "--sysctl net.ipv4.ip_unprivileged_port_start=0 --ulimit nofile=1024:2048 --ulimit core=0",
		"limits":       "-m 64m --memory-swap -1 --cpus 0.5 -c 512 --cpuset-cpus 0 --pids-limit 100",
		"restart":      "--restart on-failure:3 --log-driver json-file --log-opt max-size=1m",
	} {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(flags)
			theirs := docker(t, append(append([]string{"create"}, args...), "tiny:lab", "true", "--flag")...)
			t.Cleanup(func() { docker(t, "rm", "-v", theirs) })

			var f containerFlags
			set := pflag.NewFlagSet("test", pflag.ContinueOnError)
			f.add(set)
			require.NoError(t, set.Parse(args))
			spec, err := f.spec("tiny:lab", []string{"true", "--flag"})
			require.NoError(t, err)
			ours, err := eng.Create(ctx, spec, "")
			require.NoError(t, err)
			t.Cleanup(func() { docker(t, "rm", "-v", ours) })

			require.JSONEq(t, describe(t, eng, theirs), describe(t, eng, ours))
		})
	}
	docker(t, "volume", "rm", "named-by-flags-test")
}

// describe returns what the engine knows of a container, without what is new in every one, and without defaults that
// docker spells out and the engine fills in alike.
func describe(t *testing.T, eng *engine.Engine, id string) string {
	t.Helper()
	info, err := eng.Client.ContainerInspect(context.Background(), id)
	require.NoError(t, err)
	if info.Config.Hostname == id[:12] {
		info.Config.Hostname = ""
	}
	info.HostConfig.ContainerIDFile = ""
	info.HostConfig.ConsoleSize = [2]uint{} // docker's is that of the terminal
	if info.HostConfig.PidsLimit != nil && *info.HostConfig.PidsLimit == 0 {
		info.HostConfig.PidsLimit = nil
	}
	if len(info.Config.Volumes) == 0 {
		info.Config.Volumes = nil
	}
	for i := range info.Mounts { // anonymous volumes have names of their own
		if strings.Contains(info.Mounts[i].Source, info.Mounts[i].Name) && len(info.Mounts[i].Name) == 64 {
			info.Mounts[i].Name, info.Mounts[i].Source = "", ""
		}
	}
	slices.Sort(info.HostConfig.Binds) // docker keeps these in sets
	slices.Sort(info.Config.Env)
	slices.SortFunc(info.Mounts, func(a, b container.MountPoint) int { return strings.Compare(a.Destination, b.Destination) })
	endpoints := map[string][]string{}
	for name, e := range info.NetworkSettings.Networks {
		endpoints[name] = e.Aliases
		if e.IPAMConfig != nil {
			endpoints[name] = append(endpoints[name], e.IPAMConfig.IPv4Address)
		}
	}
	b, err := json.Marshal(struct {
		Config    *container.Config
		Host      map[string]any
		Mounts    []container.MountPoint
		Endpoints map[string][]string
	}{info.Config, withoutEmpty(t, info.HostConfig), info.Mounts, endpoints})
	require.NoError(t, err)
	return string(b)
}

// withoutEmpty leaves out what is null or an empty list: docker sends either, and the engine takes both for none.
func withoutEmpty(t *testing.T, host *container.HostConfig) map[string]any {
	t.Helper()
	b, err := json.Marshal(host)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(b, &fields))
	maps.DeleteFunc(fields, func(_ string, value any) bool {
		list, isList := value.([]any)
		return value == nil || isList && len(list) == 0
	})
	return fields
}

func docker(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("docker", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "docker %s: %s", strings.Join(args, " "), stderr.String())
	return strings.TrimSpace(string(out))
}

func TestFlagsRefuse(t *testing.T) {
	for flags, want := range map[string]string{
		"-p nonsense":                            "--publish",
		"-p 80:99999":                            "--publish",
		"--expose x":                             "--expose",
		"--restart on-failure:x":                 "--restart",
		"--env-file /no/such":                    "--env-file",
		"-e =value":                              "--env \"=value\"",
		"--label-file /no/such":                  "--label",
		"--security-opt seccomp=/no/such":        "seccomp profile",
		"--security-opt nonsense":                "NAME=VALUE",
		"--network-alias x":                      "--network-alias",
		"--network host --network other":         "combined",
		"--network bridge --network-alias db":    "--network-alias",
		"--security-opt seccomp=/proc/self/comm": "not JSON",
	} {
		var f containerFlags
		set := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(set)
		require.NoError(t, set.Parse(strings.Fields(flags)))
		_, err := f.spec("image", nil)
		require.ErrorContains(t, err, want, flags)
		require.ErrorAs(t, err, &usageError{}, flags)
	}
}
