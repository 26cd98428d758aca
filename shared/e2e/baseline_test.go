package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// TestCPUBaseline: a donor's glibc and OpenSSL keep to the level that it is held to, a start that knows nothing of it finds the
// snapshot, and fits any processor that has the level.
func TestCPUBaseline(t *testing.T) {
	l := newLab(t)
	spec := l.ruby(`$stdout.sync = true
File.write("/seen", %x(/lib64/ld-linux-x86-64.so.2 --list-diagnostics | grep dl_hwcaps_subdirs_active; openssl version -c; grep -c GLIBC_TUNABLES= /proc/self/environ))
puts "up"; sleep`)
	options := build.Options{Spec: spec, Ready: up, Checkpoint: criu.DefaultOptions(), Store: l.store, CPU: "x86-64-v2"}
	built, err := build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
	require.Equal(t, criu.Baseline("x86-64-v2"), built.Config.Host.CPUBaseline)
	require.NotContains(t, built.Config.Run.Env, "GLIBC_TUNABLES")

	host, err := criu.HostInfo(l.ctx)
	require.NoError(t, err)
	require.Contains(t, host.CPUFeatures, "avx2", "what the donor does without")
	l.republish(built, func(c *snapshot.Config) { c.Host.CPUFeatures = append(c.Host.CPUFeatures, "from_the_future") })
	clone := l.run(spec, restore.PolicyAlways)
	seen := l.read(l.inspect(clone.ContainerID).GraphDriver.Data["UpperDir"] + "/seen")
	require.Regexp(t, `dl_hwcaps_subdirs_active=0x4\n`, seen, "of glibc's directories, x86-64-v2 alone")
	var one, two uint64
	_, openssl, _ := strings.Cut(seen, "OPENSSL_ia32cap=")
	_, err = fmt.Sscanf(openssl, "%v:%v", &one, &two)
	require.NoError(t, err, seen)
	require.NotZero(t, one&(1<<57), "AES")
	require.Zero(t, one&(1<<60|1<<44|1<<54), "AVX, FMA, MOVBE")
	require.Zero(t, two&(1<<3|1<<5|1<<8|1<<16|1<<18|1<<19|1<<29), "BMI, AVX2, AVX-512, RDSEED, ADX, SHA")
	require.Regexp(t, `\n1\n$`, seen)

	options.CPU = "x86-64-v3"
	again, err := build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
	require.True(t, again.Existed)
	require.Len(t, again.Warnings, 1)
	require.Contains(t, again.Warnings[0], `built with cpu = "x86-64-v2"`)

	spec.Config.Env = append(spec.Config.Env, "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2")
	_, err = build.Snapshot(l.ctx, l.eng, options)
	require.ErrorIs(t, err, build.ErrDescription)
	require.ErrorContains(t, err, "leave glibc.cpu.hwcaps, or cpu, out")
}
