package main

import (
	"testing"
	"time"

	"github.com/hashicorp/nomad/helper/pluginutils/hclutils"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// parsePlugin decodes a plugin block as the agent does.
func parsePlugin(t *testing.T, hcl string) (settings, error) {
	t.Helper()
	return parseConfig(encodePlugin(t, hcl))
}

func encodePlugin(t *testing.T, hcl string) []byte {
	t.Helper()
	var c pluginConfig
	hclutils.NewConfigParser(configSpec).ParseHCL(t, "config {\n"+hcl+"\n}", &c)
	var encoded []byte
	require.NoError(t, base.MsgPackEncode(&encoded, &c))
	return encoded
}

// parseTask decodes a task's config block as the agent does.
func parseTask(t *testing.T, hcl string) *taskConfig {
	t.Helper()
	tc := &taskConfig{}
	hclutils.NewConfigParser(taskConfigSpec).ParseHCL(t, "config {\n"+hcl+"\n}", tc)
	return tc
}

func TestPluginConfigDefaults(t *testing.T) {
	s, err := parsePlugin(t, "")
	require.NoError(t, err)
	require.Equal(t, 5*time.Minute, s.imagePullTimeout)
	require.Equal(t, 2*time.Minute, s.pullActivityTimeout)
	require.Equal(t, 5*time.Minute, s.sweepPeriod)
	require.Equal(t, 5*time.Minute, s.creationGrace)
	require.Equal(t, time.Minute, s.snapshotTimeout)
	require.Equal(t, int64(20<<30), s.cacheMaxBytes)
	require.Equal(t, cache.DefaultDir, s.Cache.Dir)
	require.Equal(t, store.DefaultDir, s.Snapshot.Store)
	require.Equal(t, string(restore.PolicyIfPresent), s.Snapshot.Policy)
	require.Equal(t, string(restore.MemoryAuto), s.Snapshot.Memory)
	require.True(t, s.GC.Container)
	require.True(t, s.GC.DanglingContainers.Enabled)
	require.False(t, s.Volumes.Enabled)
	require.False(t, s.AllowPrivileged)
	require.NotContains(t, s.AllowCaps, "NET_RAW")
	require.Equal(t, "json-file", s.Logging.Type)
	require.Equal(t, map[string]string{"max-file": "2", "max-size": "2m"}, s.Logging.Config.merged())
}

// A block that is there in part keeps the defaults of the attributes that it leaves out.
func TestPluginConfigPartialBlocks(t *testing.T) {
	s, err := parsePlugin(t, `
		gc { dangling_containers { dry_run = true } }
		cache { max_size = "1GiB" }
		snapshot {
			store        = "gs://snapshots/prod"
			allow_stores = ["gs://snapshots/*"]
			timeout      = "10s"
		}`)
	require.NoError(t, err)
	require.True(t, s.GC.Container)
	require.True(t, s.GC.DanglingContainers.DryRun)
	require.True(t, s.GC.DanglingContainers.Enabled)
	require.Equal(t, 5*time.Minute, s.sweepPeriod)
	require.Equal(t, cache.DefaultDir, s.Cache.Dir)
	require.Equal(t, int64(1<<30), s.cacheMaxBytes)
	require.Equal(t, "if_present", s.Snapshot.Policy)
	require.Equal(t, "auto", s.Snapshot.Memory)
	require.Equal(t, 10*time.Second, s.snapshotTimeout)
}

func TestPluginConfigErrors(t *testing.T) {
	for _, c := range []struct{ hcl, says string }{
		{`image_pull_timeout = "soon"`, `image_pull_timeout = "soon": want a duration`},
		{`gc { dangling_containers { period = "0s" } }`, `gc.dangling_containers.period = "0s": want a duration above zero`},
		{`cache { max_size = "much" }`, `cache.max_size = "much": want a size such as "20GiB"`},
		{`snapshot { policy = "sometimes" }`, `snapshot.policy = "sometimes": want "never", "if_present" or "always"`},
		{`snapshot { memory = "64MB" }`, `snapshot.memory = "64MB": want "lazy", "eager" or "auto"`},
		{`snapshot { timeout = "-1s" }`, `snapshot.timeout = "-1s": want a duration above zero`},
	} {
		_, err := parsePlugin(t, c.hcl)
		require.ErrorContains(t, err, c.says)
	}
}

// Everything that a job may write ends up where it belongs, as attribute and as block.
func TestTaskConfigDecoding(t *testing.T) {
	tc := parseTask(t, `
		image      = "redmine:5"
		entrypoint = ["/bin/sh", "-c"]
		command    = "puma"
		args       = ["-e", "production"]
		ports      = ["http"]
		labels { tier = "web" }
		sysctl = { "net.core.somaxconn" = "16384" }
		ulimit { nofile = "2048:4096" }
		mount {
			type   = "tmpfs"
			target = "/tmp/cache"
			tmpfs_options { size = 1048576 }
		}
		mount {
			target = "/data"
			source = "data"
			volume_options { labels { a = "b" } }
		}
		devices = [{ host_path = "/dev/null" }]
		logging {
			type = "local"
			config { max-size = "1m" }
		}
		healthchecks { disable = true }
		snapshot {
			store   = "gs://snapshots"
			policy  = "always"
			ref     = "sha256:0123"
			memory  = "lazy"
			timeout = "5s"
		}`)
	require.Equal(t, []string{"/bin/sh", "-c"}, tc.Entrypoint)
	require.Equal(t, []string{"-e", "production"}, tc.Args)
	require.Equal(t, map[string]string{"tier": "web"}, tc.Labels.merged())
	require.Equal(t, map[string]string{"net.core.somaxconn": "16384"}, tc.Sysctl.merged())
	require.Equal(t, map[string]string{"nofile": "2048:4096"}, tc.Ulimit.merged())
	require.Len(t, tc.Mount, 2)
	require.EqualValues(t, 1<<20, tc.Mount[0].TmpfsOptions.SizeBytes)
	require.Equal(t, "volume", tc.Mount[1].Type)
	require.Equal(t, map[string]string{"a": "b"}, tc.Mount[1].VolumeOptions.Labels.merged())
	require.Equal(t, []device{{HostPath: "/dev/null"}}, tc.Devices)
	require.Equal(t, "local", tc.Logging.Type)
	require.Equal(t, map[string]string{"max-size": "1m"}, tc.Logging.Config.merged())
	require.True(t, tc.Healthchecks.Disable)
	require.EqualValues(t, 100000, tc.CPUCFSPeriod)
	require.Equal(t, taskSnapshot{Store: "gs://snapshots", Policy: "always", Ref: "sha256:0123", Memory: "lazy", Timeout: "5s"}, tc.Snapshot)
}

func TestPlan(t *testing.T) {
	s, err := parsePlugin(t, `snapshot {
		store        = "/srv/snapshots"
		allow_stores = ["gs://team-a/*"]
		memory       = "lazy"
	}`)
	require.NoError(t, err)

	plan, err := parseTask(t, `image = "a"`).plan(s)
	require.NoError(t, err)
	require.Equal(t, startPlan{policy: restore.PolicyIfPresent, store: "/srv/snapshots", memory: restore.MemoryLazy, timeout: time.Minute}, plan)

	plan, err = parseTask(t, `
		image = "a"
		snapshot {
			store   = "gs://team-a/web"
			policy  = "always"
			memory  = "eager"
			timeout = "5s"
		}`).plan(s)
	require.NoError(t, err)
	require.Equal(t, startPlan{policy: restore.PolicyAlways, store: "gs://team-a/web", memory: restore.MemoryEager, timeout: 5 * time.Second}, plan)

	for _, c := range []struct{ snapshot, says string }{
		{`store = "/tmp/evil"`, `snapshot.store = "/tmp/evil" is not allowed on this client`},
		{`policy = "maybe"`, `snapshot.policy = "maybe": want`},
		{`memory = "some"`, `snapshot.memory = "some": want`},
		{`timeout = "5"`, `snapshot.timeout = "5": want a duration`},
	} {
		_, err := parseTask(t, "image = \"a\"\nsnapshot {\n"+c.snapshot+"\n}").plan(s)
		require.ErrorContains(t, err, c.says)
	}
}
