package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/stretchr/testify/require"
)

// looks is what a program can find out about the container that it is in, by what it is: "mount /tmp", "limit Max open files".
type looks map[string]string

const hosts = "the host's"

// look looks at the first process of a container, through the kernel. What names the container itself is replaced.
func (l *lab) look(id string) looks {
	l.Helper()
	s := looks{}
	proc := fmt.Sprintf("/proc/%d/", l.state(id).Pid)
	layer := l.inspect(id).GraphDriver.Data["UpperDir"]
	names := []string{id, "ID", id[:12], "ID", filepath.Base(filepath.Dir(layer)), "LAYER"}
	for _, n := range l.inspect(id).NetworkSettings.Networks {
		if n.IPAddress != "" {
			names = append(names, n.IPAddress, "ADDRESS")
		}
	}
	for _, m := range l.inspect(id).Mounts {
		if m.Name != "" { // also of a volume that the engine has made for this container
			names = append(names, m.Name, "VOLUME")
		}
	}
	own := strings.NewReplacer(names...)

	f, err := os.Open(proc + "mountinfo")
	require.NoError(l, err)
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	require.NoError(l, err)
	for _, m := range mounts {
		if m.FSType == "overlay" { // names its layers by random links
			m.VFSOptions = ""
		}
		s["mount "+m.Mountpoint] += own.Replace(strings.Join([]string{m.Root, m.Options, m.Optional, m.FSType, m.Source, m.VFSOptions}, " "))
	}
	for _, line := range strings.Split(l.read(proc+"status"), "\n") {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Cpus_allowed_list", "Mems_allowed_list":
			s["status "+name] = strings.TrimSpace(value)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(l.read(proc+"limits")), "\n")[1:] {
		name := strings.TrimSpace(line[:26])
		s["limit "+name] = strings.Join(strings.Fields(line[26:]), " ")
	}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		theirs, err := os.Readlink(proc + "ns/" + ns)
		require.NoError(l, err)
		ours, err := os.Readlink("/proc/1/ns/" + ns)
		require.NoError(l, err)
		s["namespace "+ns] = map[bool]string{true: hosts, false: "another"}[theirs == ours]
	}
	s["oom_score_adj"] = strings.TrimSpace(l.read(proc + "oom_score_adj"))
	for _, variable := range strings.Split(strings.Trim(l.read(proc+"environ"), "\x00"), "\x00") {
		name, value, _ := strings.Cut(variable, "=")
		s["variable "+name] = own.Replace(value)
	}
	s["command"] = l.read(proc + "cmdline")
	s["directory"], err = os.Readlink(proc + "cwd")
	require.NoError(l, err)
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		s["/etc/"+file] = own.Replace(l.read(proc + "root/etc/" + file))
	}
	for name, command := range map[string]string{
		"hostname": "cat /proc/sys/kernel/hostname", "domain name": "cat /proc/sys/kernel/domainname", "sysctls": "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax",
		"devices": "ls /dev", "interfaces": "ls /sys/class/net",
	} {
		if name != "interfaces" || s["namespace net"] != hosts { // of which other tests have some
			s[name] = own.Replace(l.sh(id, command))
		}
	}
	s["cgroup"] = own.Replace(l.read(proc + "cgroup"))
	l.lookAtCgroups(s, proc)
	return s
}

// donors are what a clone has of its donor: documented, and named in docs/what-is-the-clones.md.
var donors = []string{"variable HOSTNAME"}

// requireEqualLooks compares a container that has booted with a clone.
func requireEqualLooks(t *testing.T, cold, hot looks) {
	t.Helper()
	for _, l := range []looks{cold, hot} {
		for _, name := range donors {
			delete(l, name)
		}
	}
	require.Equal(t, cold, hot)
}

// lookAtCgroups adds the limits that the container's cgroups set, of either version.
func (l *lab) lookAtCgroups(s looks, proc string) {
	l.Helper()
	for _, line := range strings.Split(strings.TrimSpace(l.read(proc+"cgroup")), "\n") {
		_, rest, _ := strings.Cut(line, ":")
		controllers, cgroup, _ := strings.Cut(rest, ":")
		for _, pattern := range []string{
			"memory.*limit_in_bytes", "memory.swappiness", "memory.oom_control", "memory.max", "memory.low", "memory.high", "memory.swap.max",
			"cpu.shares", "cpu.cfs_*", "cpu.rt_*_us", "cpu.max", "cpu.weight", "cpuset.cpus", "cpuset.mems", "pids.max", "devices.list",
			"blkio.weight*", "blkio.throttle.*_device", "io.max", "io.weight",
		} {
			files, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", strings.TrimPrefix(controllers, "name="), cgroup, pattern))
			require.NoError(l, err)
			for _, file := range files {
				if b, err := os.ReadFile(file); err == nil { // some can't be read, as on every container
					s["cgroup "+filepath.Base(file)] = strings.TrimSpace(string(b))
				}
			}
		}
	}
}

func (l *lab) read(file string) string {
	l.Helper()
	b, err := os.ReadFile(file)
	require.NoError(l, err)
	return string(b)
}
