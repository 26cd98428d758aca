package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestLimitsOfTheDonor: an app sizes itself while it boots, so the donor has the limits that its build was given. They do not decide
// about the fit, and each clone has its own.
func TestLimitsOfTheDonor(t *testing.T) {
	l := newLab(t)
	const limits = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; " +
		"grep Cpus_allowed_list /proc/self/status"
	spec := l.spec(tiny, "("+limits+") >/www/boot; exec httpd -f -p 80 -h /www")
	spec.Host.Memory, spec.Host.NanoCPUs, spec.Host.CpusetCpus = 64<<20, 5e8, "0"
	l.build(spec, tinyReady)

	host := *spec.Host
	host.Memory, host.NanoCPUs, host.CpusetCpus = 96<<20, 25e7, "1"
	spec.Host = &host
	clone := l.run(spec, restore.PolicyAlways)
	boot := l.mustGet("http://" + l.ip(clone.ContainerID) + "/boot")
	require.Regexp(t, `^67108864\n50000( 100000)?\nCpus_allowed_list:\t0\n$`, boot)
	require.Regexp(t, `^100663296\n25000( 100000)?\nCpus_allowed_list:\t1$`, l.sh(clone.ContainerID, limits))
}
