package main

import (
	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/spf13/pflag"
)

// containerFlags are the flags of docker run that say how a container is started, with the same names and meanings.
// Left out are those that a detached container or CRIU has no use for (-i, --gpus, --device, …).
type containerFlags struct {
	env, envFiles     []string
	labels, labelFile []string
	entrypoint        string
	user, workdir     string
	hostname          string
	tty, init         bool

	publish, expose []string
	publishAll      bool
	network         opts.NetworkOpt
	aliases         []string
	dns, dnsSearch  []string
	dnsOptions      []string
	extraHosts      []string

	volumes, tmpfs []string
	mounts         opts.MountOpt
	readOnly       bool
	shmSize        opts.MemBytes

	capAdd, capDrop, securityOpt, groupAdd []string
	privileged                             bool
	ipc, pid, uts, userns, cgroupns        string
	sysctls                                *opts.MapOpts
	ulimits                                *opts.UlimitOpt

	memory       opts.MemBytes
	memorySwap   opts.MemSwapBytes
	cpus         opts.NanoCPUs
	cpuShares    int64
	cpusetCPUs   string
	pidsLimit    int64
	cgroupParent string

	restart, stopSignal, logDriver string
	stopTimeout                    int
	logOpts                        []string

	set *pflag.FlagSet // tells which flags were given
}

func (f *containerFlags) add(set *pflag.FlagSet) {
	f.set = set
	f.sysctls = opts.NewMapOpts(nil, opts.ValidateSysctl)
	ulimits := map[string]*container.Ulimit{}
	f.ulimits = opts.NewUlimitOpt(&ulimits)

	// Elsewhere -h is help; here it is what docker run means by it.
	set.Bool("help", false, "help for this command")
	set.StringVarP(&f.hostname, "hostname", "h", "", "host name of the container")

	set.StringArrayVarP(&f.env, "env", "e", nil, "set an environment variable (NAME=VALUE, or NAME to pass it on)")
	set.StringArrayVar(&f.envFiles, "env-file", nil, "read environment variables from a file")
	set.StringArrayVarP(&f.labels, "label", "l", nil, "set a label (NAME=VALUE)")
	set.StringArrayVar(&f.labelFile, "label-file", nil, "read labels from a file")
	set.StringVar(&f.entrypoint, "entrypoint", "", "program to start instead of the image's entrypoint")
	set.StringVarP(&f.user, "user", "u", "", "user and group (NAME|UID[:GROUP|GID])")
	set.StringVarP(&f.workdir, "workdir", "w", "", "working directory")
	set.BoolVarP(&f.tty, "tty", "t", false, "allocate a terminal; containers with one always boot cold")
	set.BoolVar(&f.init, "init", false, "run an init that forwards signals and reaps processes")

	set.StringArrayVarP(&f.publish, "publish", "p", nil, "publish a port ([[IP:]HOSTPORT:]PORT[/PROTOCOL])")
	set.BoolVarP(&f.publishAll, "publish-all", "P", false, "publish all exposed ports to free ports of the host")
	set.StringArrayVar(&f.expose, "expose", nil, "expose a port or a range of ports")
	set.Var(&f.network, "network", "connect to a network (bridge, host, none, container:ID, NAME)")
	set.StringArrayVar(&f.aliases, "network-alias", nil, "further name of the container in its network")
	set.StringArrayVar(&f.dns, "dns", nil, "DNS server")
	set.StringArrayVar(&f.dnsSearch, "dns-search", nil, "DNS search domain")
	set.StringArrayVar(&f.dnsOptions, "dns-option", nil, "DNS option")
	set.StringArrayVar(&f.extraHosts, "add-host", nil, "further line in /etc/hosts (HOST:IP)")

	set.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount a directory or volume (SOURCE:DESTINATION[:OPTIONS])")
	set.Var(&f.mounts, "mount", "mount a file system (type=bind|volume|tmpfs,source=…,target=…)")
	set.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount a tmpfs (DESTINATION[:OPTIONS])")
	set.BoolVar(&f.readOnly, "read-only", false, "mount the root file system read-only")
	set.Var(&f.shmSize, "shm-size", "size of /dev/shm")

	set.StringArrayVar(&f.capAdd, "cap-add", nil, "add a capability")
	set.StringArrayVar(&f.capDrop, "cap-drop", nil, "drop a capability")
	set.StringArrayVar(&f.securityOpt, "security-opt", nil, "security option")
	set.StringArrayVar(&f.groupAdd, "group-add", nil, "further group of the process")
	set.BoolVar(&f.privileged, "privileged", false, "give the container the host's privileges")
	set.StringVar(&f.ipc, "ipc", "", "IPC namespace")
	set.StringVar(&f.pid, "pid", "", "process namespace")
	set.StringVar(&f.uts, "uts", "", "UTS namespace")
	set.StringVar(&f.userns, "userns", "", "user namespace")
	set.StringVar(&f.cgroupns, "cgroupns", "", "cgroup namespace (host|private)")
	set.Var(f.sysctls, "sysctl", "set a kernel parameter (NAME=VALUE)")
	set.Var(f.ulimits, "ulimit", "set a resource limit (NAME=SOFT[:HARD])")

	set.VarP(&f.memory, "memory", "m", "memory limit")
	set.Var(&f.memorySwap, "memory-swap", "limit of memory plus swap, -1 for none")
	set.Var(&f.cpus, "cpus", "number of processors")
	set.Int64VarP(&f.cpuShares, "cpu-shares", "c", 0, "share of the processors (relative weight)")
	set.StringVar(&f.cpusetCPUs, "cpuset-cpus", "", "processors to run on (0-3, 0,1)")
	set.Int64Var(&f.pidsLimit, "pids-limit", 0, "limit of processes and threads, -1 for none")
	set.StringVar(&f.cgroupParent, "cgroup-parent", "", "parent control group")

	set.StringVar(&f.restart, "restart", "no", "restart policy (no|on-failure[:N]|always|unless-stopped)")
	set.StringVar(&f.stopSignal, "stop-signal", "", "signal that stops the container")
	set.IntVar(&f.stopTimeout, "stop-timeout", 0, "seconds until the container is killed when stopped")
	set.StringVar(&f.logDriver, "log-driver", "", "logging driver")
	set.StringArrayVar(&f.logOpts, "log-opt", nil, "option of the logging driver (NAME=VALUE)")
}
