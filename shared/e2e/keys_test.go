package e2e

import (
	"path"
	"time"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-connections/nat"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// What a key of the engine's request is to a clone.
type verdict string

const (
	own     verdict = "the clone's own"
	fit     verdict = "part of the fit"
	engines verdict = "the engine's"
	nothing verdict = "nothing"
)

// key is one key of the engine's request.
type key struct {
	name    string
	is      verdict
	remark  string
	set     func(*asked) // asks for something else than the donor had; nil where that can't be tried here, and the remark says why
	group   int          // own and engines are tried together, in groups of what goes together
	shows   string       // what of a container's looks must change for this; "" where nothing can
	instead string       // a further name of the same, where the first is unknown on this host (cgroup v2)
	alike   int          // group of keys of the fit that a donor and its clone are both asked for; 0 is none
}

// asked is what a start asks for.
type asked struct {
	l *lab
	engine.Spec
	mounts map[string]*mount.Mount // by target
	parent string                  // cgroup that containers of this engine are in
	disk   string                  // a block device
}

// second is the group of what the first one can't have.
const second = 1

// keys is in the order of the engine's API.
var keys = []key{
	{
		name: "HostConfig.Binds", is: own, remark: "contents, flags and propagation; the destinations are part of the fit", shows: "mount /v",
		set: func(a *asked) { a.Host.Binds = []string{mounted(a.l.T, unix.MS_NOEXEC) + ":/v"} },
	},
	{name: "HostConfig.ContainerIDFile", is: engines, remark: "of the engine's client", set: func(a *asked) { a.Host.ContainerIDFile = "/tmp/x" }},
	{name: "HostConfig.LogConfig", is: engines, set: func(a *asked) {
		a.Host.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m"}}
	}},
	{name: "HostConfig.NetworkMode", is: own, group: second, shows: "namespace net", set: func(a *asked) { a.Host.NetworkMode = "host" }},
	{name: "HostConfig.PortBindings", is: engines, set: func(a *asked) {
		a.Host.PortBindings = nat.PortMap{"80/tcp": {{HostIP: "127.0.0.1", HostPort: "0"}}}
	}},
	{name: "HostConfig.RestartPolicy", is: engines, remark: "every restart is hot", set: func(a *asked) { a.Host.RestartPolicy.Name = "on-failure" }},
	{name: "HostConfig.AutoRemove", is: engines, group: second, set: func(a *asked) { a.Host.AutoRemove = true }},
	{name: "HostConfig.VolumeDriver", is: engines, remark: "makes the contents of volumes", set: func(a *asked) { a.Host.VolumeDriver = "local" }},
	{name: "HostConfig.VolumesFrom", is: fit, remark: "never fits: nobody but the engine knows what is mounted then", set: func(a *asked) { a.Host.VolumesFrom = []string{"x"} }},
	{name: "HostConfig.ConsoleSize", is: nothing, remark: "of terminals, which no clone has"},
	{name: "HostConfig.Annotations", is: engines, remark: "of the runtime", set: func(a *asked) { a.Host.Annotations = map[string]string{"x": "y"} }},
	{name: "HostConfig.CapAdd", is: fit, alike: 1, set: func(a *asked) { a.Host.CapAdd = []string{"NET_ADMIN"} }},
	{name: "HostConfig.CapDrop", is: fit, alike: 1, set: func(a *asked) { a.Host.CapDrop = []string{"CHOWN"} }},
	{name: "HostConfig.CgroupnsMode", is: fit, alike: 1, set: func(a *asked) { a.Host.CgroupnsMode = "private" }},
	{name: "HostConfig.DNS", is: own, shows: "/etc/resolv.conf", set: func(a *asked) { a.Host.DNS = []string{"192.0.2.1"} }},
	{name: "HostConfig.DNSOptions", is: own, shows: "/etc/resolv.conf", set: func(a *asked) { a.Host.DNSOptions = []string{"ndots:3"} }},
	{name: "HostConfig.DNSSearch", is: own, shows: "/etc/resolv.conf", set: func(a *asked) { a.Host.DNSSearch = []string{"example.org"} }},
	{name: "HostConfig.ExtraHosts", is: own, shows: "/etc/hosts", set: func(a *asked) { a.Host.ExtraHosts = []string{"db:192.0.2.2"} }},
	{name: "HostConfig.GroupAdd", is: fit, alike: 1, set: func(a *asked) { a.Host.GroupAdd = []string{"7"} }},
	{name: "HostConfig.IpcMode", is: fit, alike: 2, set: func(a *asked) { a.Host.IpcMode = "host" }},
	{name: "HostConfig.Cgroup", is: nothing, remark: "the engine ignores it"},
	{name: "HostConfig.Links", is: fit, remark: "never fits: the engine makes variables of them", set: func(a *asked) { a.Host.Links = []string{"x:y"} }},
	{name: "HostConfig.OomScoreAdj", is: own, remark: "of all processes but those whose app has set another", shows: "oom_score_adj", set: func(a *asked) { a.Host.OomScoreAdj = 200 }},
	{name: "HostConfig.PidMode", is: fit, alike: 2, set: func(a *asked) { a.Host.PidMode = "host" }},
	{name: "HostConfig.Privileged", is: fit, alike: 2, set: func(a *asked) { a.Host.Privileged = true }},
	{name: "HostConfig.PublishAllPorts", is: engines, set: func(a *asked) { a.Host.PublishAllPorts = true }},
	{name: "HostConfig.ReadonlyRootfs", is: fit, alike: 1, set: func(a *asked) { a.Host.ReadonlyRootfs = true }},
	{name: "HostConfig.SecurityOpt", is: fit, alike: 1, set: func(a *asked) { a.Host.SecurityOpt = []string{"no-new-privileges"} }},
	{name: "HostConfig.StorageOpt", is: engines, remark: "bounds the container layer; needs a file system with quotas, which the lab has not"},
	{
		name: "HostConfig.Tmpfs", is: own, remark: "sizes and flags; the destinations, `mode`, `uid` and `gid` are part of the fit", shows: "mount /t",
		set: func(a *asked) { a.Host.Tmpfs = map[string]string{"/t": "size=2m,exec"} },
	},
	{name: "HostConfig.UTSMode", is: fit, alike: 2, set: func(a *asked) { a.Host.UTSMode = "host" }},
	{name: "HostConfig.UsernsMode", is: fit, alike: 2, set: func(a *asked) { a.Host.UsernsMode = "host" }},
	{name: "HostConfig.ShmSize", is: own, remark: "must hold what the donor had there", shows: "mount /dev/shm", set: func(a *asked) { a.Host.ShmSize = 1 << 20 }},
	{name: "HostConfig.Sysctls", is: fit, alike: 1, set: func(a *asked) { a.Host.Sysctls = map[string]string{"net.core.somaxconn": "99"} }},
	{name: "HostConfig.Runtime", is: nothing, remark: "a clone's is criu-docker's own"},
	{name: "HostConfig.Isolation", is: nothing, remark: "of Windows"},
	{name: "HostConfig.CPUShares", is: own, shows: "cgroup cpu.shares", instead: "cgroup cpu.weight", set: func(a *asked) { a.Host.CPUShares = 77 }},
	{name: "HostConfig.Memory", is: own, remark: "must hold the donor's memory", shows: "cgroup memory.limit_in_bytes", instead: "cgroup memory.max", set: func(a *asked) { a.Host.Memory = 64 << 20 }},
	{name: "HostConfig.NanoCPUs", is: own, group: second, shows: "cgroup cpu.cfs_quota_us", instead: "cgroup cpu.max", set: func(a *asked) { a.Host.NanoCPUs = 5e8 }},
	{name: "HostConfig.CgroupParent", is: own, shows: "cgroup", set: func(a *asked) { a.Host.CgroupParent = path.Dir(a.parent) }},
	{name: "HostConfig.BlkioWeight", is: own, remark: "the lab's kernel weighs no I/O", set: func(a *asked) { a.Host.BlkioWeight = 300 }},
	{name: "HostConfig.BlkioWeightDevice", is: own, remark: "not tried: the lab's kernel weighs no I/O"},
	{name: "HostConfig.BlkioDeviceReadBps", is: own, shows: "cgroup blkio.throttle.read_bps_device", instead: "cgroup io.max", set: func(a *asked) { a.Host.BlkioDeviceReadBps = a.throttle(1 << 20) }},
	{name: "HostConfig.BlkioDeviceWriteBps", is: own, shows: "cgroup blkio.throttle.write_bps_device", instead: "cgroup io.max", set: func(a *asked) { a.Host.BlkioDeviceWriteBps = a.throttle(2 << 20) }},
	{name: "HostConfig.BlkioDeviceReadIOps", is: own, shows: "cgroup blkio.throttle.read_iops_device", instead: "cgroup io.max", set: func(a *asked) { a.Host.BlkioDeviceReadIOps = a.throttle(1000) }},
	{name: "HostConfig.BlkioDeviceWriteIOps", is: own, shows: "cgroup blkio.throttle.write_iops_device", instead: "cgroup io.max", set: func(a *asked) { a.Host.BlkioDeviceWriteIOps = a.throttle(1000) }},
	{name: "HostConfig.CPUPeriod", is: own, shows: "cgroup cpu.cfs_period_us", instead: "cgroup cpu.max", set: func(a *asked) { a.Host.CPUPeriod = 50000 }},
	{name: "HostConfig.CPUQuota", is: own, shows: "cgroup cpu.cfs_quota_us", instead: "cgroup cpu.max", set: func(a *asked) { a.Host.CPUQuota = 40000 }},
	{name: "HostConfig.CPURealtimePeriod", is: own, remark: "not tried: the engine's cgroup must have real-time runtime, and the lab's has none"},
	{name: "HostConfig.CPURealtimeRuntime", is: own, remark: "not tried, as above"},
	{name: "HostConfig.CpusetCpus", is: own, shows: "status Cpus_allowed_list", set: func(a *asked) { a.Host.CpusetCpus = "0" }},
	{name: "HostConfig.CpusetMems", is: own, remark: "the lab has one memory node", set: func(a *asked) { a.Host.CpusetMems = "0" }},
	{name: "HostConfig.Devices", is: fit, alike: 1, remark: "a clone has the donor's /dev", set: func(a *asked) {
		a.Host.Devices = []container.DeviceMapping{{PathOnHost: "/dev/full", PathInContainer: "/dev/x", CgroupPermissions: "r"}}
	}},
	{name: "HostConfig.DeviceCgroupRules", is: own, shows: "cgroup devices.list", set: func(a *asked) { a.Host.DeviceCgroupRules = []string{"c 42:* rmw"} }},
	{name: "HostConfig.DeviceRequests", is: fit, set: func(a *asked) { a.Host.DeviceRequests = []container.DeviceRequest{{Driver: "nvidia", Count: 1}} }},
	{name: "HostConfig.KernelMemory", is: nothing, remark: "the engine ignores it"},
	{name: "HostConfig.KernelMemoryTCP", is: own, remark: "not tried: kernels since 6.12 refuse it"},
	{name: "HostConfig.MemoryReservation", is: own, shows: "cgroup memory.soft_limit_in_bytes", instead: "cgroup memory.low", set: func(a *asked) { a.Host.MemoryReservation = 32 << 20 }},
	{name: "HostConfig.MemorySwap", is: own, shows: "cgroup memory.memsw.limit_in_bytes", instead: "cgroup memory.swap.max", set: func(a *asked) { a.Host.MemorySwap = 96 << 20 }},
	{name: "HostConfig.MemorySwappiness", is: own, remark: "cgroup v1", shows: "cgroup memory.swappiness", set: func(a *asked) { a.Host.MemorySwappiness = to(int64(17)) }},
	{name: "HostConfig.OomKillDisable", is: own, remark: "cgroup v1", shows: "cgroup memory.oom_control", set: func(a *asked) { a.Host.OomKillDisable = to(true) }},
	{name: "HostConfig.PidsLimit", is: own, shows: "cgroup pids.max", set: func(a *asked) { a.Host.PidsLimit = to(int64(50)) }},
	{name: "HostConfig.Ulimits", is: fit, alike: 1, set: func(a *asked) { a.Host.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 99, Hard: 99}} }},
	{name: "HostConfig.CPUCount", is: nothing, remark: "of Windows"},
	{name: "HostConfig.CPUPercent", is: nothing, remark: "of Windows"},
	{name: "HostConfig.IOMaximumIOps", is: nothing, remark: "of Windows"},
	{name: "HostConfig.IOMaximumBandwidth", is: nothing, remark: "of Windows"},
	{name: "HostConfig.Mounts[].Type", is: fit, set: func(a *asked) { *a.mounts["/m"] = mount.Mount{Type: mount.TypeTmpfs, Target: "/m"} }},
	{name: "HostConfig.Mounts[].Source", is: own, remark: "contents and flags", shows: "mount /m", set: func(a *asked) { a.mounts["/m"].Source = a.shared(unix.MS_NOSUID) }},
	{name: "HostConfig.Mounts[].Target", is: fit, set: func(a *asked) { a.mounts["/m"].Target = "/elsewhere" }},
	{name: "HostConfig.Mounts[].ReadOnly", is: fit, alike: 1, set: func(a *asked) { a.mounts["/m"].ReadOnly = true }},
	{name: "HostConfig.Mounts[].Consistency", is: nothing, remark: "of macOS"},
	{
		name: "HostConfig.Mounts[].BindOptions.Propagation", is: own, remark: "`shared` and `rshared` never fit: a clone's mounts can't propagate to the host", shows: "mount /m",
		set: func(a *asked) { a.mounts["/m"].BindOptions.Propagation = mount.PropagationRSlave },
	},
	{name: "HostConfig.Mounts[].BindOptions.NonRecursive", is: own, remark: "what is mounted below the source never fits, unless this leaves it out", set: func(a *asked) { a.mounts["/m"].BindOptions.NonRecursive = true }},
	{name: "HostConfig.Mounts[].BindOptions.CreateMountpoint", is: engines, set: func(a *asked) { a.mounts["/m"].BindOptions.CreateMountpoint = true }},
	{name: "HostConfig.Mounts[].BindOptions.ReadOnlyNonRecursive", is: own, set: func(a *asked) { a.mounts["/r"].BindOptions.ReadOnlyNonRecursive = true }},
	{name: "HostConfig.Mounts[].BindOptions.ReadOnlyForceRecursive", is: own, remark: "not tried: an engine that read its configuration before the runtime was there refuses it"},
	{name: "HostConfig.Mounts[].VolumeOptions.NoCopy", is: engines, set: func(a *asked) { a.mounts["/vol"].VolumeOptions.NoCopy = true }},
	{name: "HostConfig.Mounts[].VolumeOptions.Labels", is: engines, set: func(a *asked) { a.mounts["/vol"].VolumeOptions.Labels = map[string]string{"x": "y"} }},
	{name: "HostConfig.Mounts[].VolumeOptions.Subpath", is: own, shows: "mount /vol", set: func(a *asked) { a.mounts["/vol"].VolumeOptions.Subpath = "sub" }},
	{name: "HostConfig.Mounts[].VolumeOptions.DriverConfig.Name", is: engines, set: func(a *asked) { a.mounts["/vol"].VolumeOptions.DriverConfig = &mount.Driver{Name: "local"} }},
	{name: "HostConfig.Mounts[].VolumeOptions.DriverConfig.Options", is: engines, remark: "makes the contents and the flags of the volume, which are the clone's own"},
	{name: "HostConfig.Mounts[].ImageOptions.Subpath", is: fit, remark: "never fits: a snapshot has no mounts of images", set: func(a *asked) {
		*a.mounts["/m"] = mount.Mount{Type: mount.TypeImage, Source: tiny, Target: "/m", ImageOptions: &mount.ImageOptions{Subpath: "x"}}
	}},
	{name: "HostConfig.Mounts[].TmpfsOptions.SizeBytes", is: own, remark: "must hold what the donor had there", shows: "mount /tm", set: func(a *asked) { a.mounts["/tm"].TmpfsOptions.SizeBytes = 3 << 20 }},
	{name: "HostConfig.Mounts[].TmpfsOptions.Mode", is: fit, alike: 1, set: func(a *asked) { a.mounts["/tm"].TmpfsOptions.Mode = 0o700 }},
	{name: "HostConfig.Mounts[].TmpfsOptions.Options", is: own, remark: "`mode`, `uid` and `gid` are part of the fit", shows: "mount /tm", set: func(a *asked) { a.mounts["/tm"].TmpfsOptions.Options = [][]string{{"exec"}} }},
	{name: "HostConfig.Mounts[].ClusterOptions", is: nothing, remark: "of Swarm"},
	{name: "HostConfig.MaskedPaths", is: fit, alike: 1, set: func(a *asked) { a.Host.MaskedPaths = []string{} }},
	{name: "HostConfig.ReadonlyPaths", is: fit, alike: 1, set: func(a *asked) { a.Host.ReadonlyPaths = []string{} }},
	{name: "HostConfig.Init", is: fit, alike: 1, set: func(a *asked) { a.Host.Init = to(true) }},

	{name: "Config.Hostname", is: own, remark: "but for the variable `HOSTNAME`, which is the donor's", shows: "hostname", set: func(a *asked) { a.Config.Hostname = "fresh" }},
	{name: "Config.Domainname", is: fit, alike: 1, set: func(a *asked) { a.Config.Domainname = "example.org" }},
	{name: "Config.User", is: fit, alike: 1, set: func(a *asked) { a.Config.User = "7" }},
	{name: "Config.AttachStdin", is: nothing, remark: "of the engine's client"},
	{name: "Config.AttachStdout", is: engines, set: func(a *asked) { a.Config.AttachStdout = true }},
	{name: "Config.AttachStderr", is: engines, set: func(a *asked) { a.Config.AttachStderr = true }},
	{name: "Config.ExposedPorts", is: engines, set: func(a *asked) { a.Config.ExposedPorts = nat.PortSet{"81/tcp": {}} }},
	{name: "Config.Tty", is: fit, remark: "never fits: CRIU opens terminals later than the engine wants them", set: func(a *asked) { a.Config.Tty = true }},
	{name: "Config.OpenStdin", is: fit, alike: 1, set: func(a *asked) { a.Config.OpenStdin = true }},
	{name: "Config.StdinOnce", is: engines, remark: "when the engine closes what `OpenStdin` opens", set: func(a *asked) { a.Config.StdinOnce = true }},
	{name: "Config.Env", is: fit, alike: 1, remark: "but for what is set anew for each allocation of an orchestrator: that is the donor's", set: func(a *asked) { a.Config.Env = []string{"X=y"} }},
	{name: "Config.Cmd", is: fit, set: func(a *asked) { a.Config.Cmd = []string{"httpd", "-f", "-p", "81"} }},
	{name: "Config.Healthcheck", is: engines, set: func(a *asked) {
		a.Config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}, Interval: time.Minute}
	}},
	{name: "Config.ArgsEscaped", is: nothing, remark: "of Windows"},
	{name: "Config.Image", is: fit, remark: "by its id", set: func(a *asked) { a.Config.Image = "pause:lab" }},
	{name: "Config.Volumes", is: fit, alike: 1, set: func(a *asked) { a.Config.Volumes = map[string]struct{}{"/x": {}} }},
	{name: "Config.WorkingDir", is: fit, alike: 1, set: func(a *asked) { a.Config.WorkingDir = "/tmp" }},
	{name: "Config.Entrypoint", is: fit, set: func(a *asked) { a.Config.Entrypoint = []string{"/bin/busybox", "nice"} }},
	{name: "Config.NetworkDisabled", is: fit, remark: "it takes files in /etc away as well; `NetworkMode` none is the clone's own", set: func(a *asked) { a.Config.NetworkDisabled = true }},
	{name: "Config.MacAddress", is: own, remark: "as all of the network is; deprecated, and not tried"},
	{name: "Config.OnBuild", is: nothing, remark: "of images"},
	{name: "Config.Labels", is: engines, set: func(a *asked) { a.Config.Labels["x"] = "y" }},
	{name: "Config.StopSignal", is: engines, set: func(a *asked) { a.Config.StopSignal = "SIGINT" }},
	{name: "Config.StopTimeout", is: engines, set: func(a *asked) { a.Config.StopTimeout = to(3) }},
	{name: "Config.Shell", is: nothing, remark: "of images"},
}

func to[T any](v T) *T { return &v }

// shared returns a directory that is mounted with flags and shared.
func (a *asked) shared(flags uintptr) string {
	dir := mounted(a.l.T, flags)
	require.NoError(a.l, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	return dir
}

func (a *asked) throttle(rate uint64) []*blkiodev.ThrottleDevice {
	return []*blkiodev.ThrottleDevice{{Path: a.disk, Rate: rate}}
}
