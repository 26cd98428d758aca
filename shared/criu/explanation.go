package criu

import (
	"regexp"
	"strings"
	"sync"
)

// explanation says what one of CRIU's error messages means for users who build or start a snapshot. Meaning and
// remedy may refer to the pattern's groups as ${1}, ${2}, …
type explanation struct {
	pattern *regexp.Regexp
	meaning string
	remedy  string
	passing bool // it is about a moment
}

// explain returns the first explanation that fits an error line, or nil. The kind of socket that it is about stands before
// the line, as "[SOCK_DGRAM TCP_ESTABLISHED] "; "" if unknown.
func explain(known []explanation, socket, line string) *Failure {
	text := socket + line
	for _, e := range known {
		if m := e.pattern.FindStringSubmatchIndex(text); m != nil {
			meaning := string(e.pattern.ExpandString(nil, e.meaning, text, m))
			return &Failure{
				Line:    line,
				Meaning: strings.ReplaceAll(meaning, "the mount at (null)", "a mount that is out of the app's sight (covered by another, or detached)"),
				Remedy:  string(e.pattern.ExpandString(nil, e.remedy, text, m)),
				Passing: e.passing,
			}
		}
	}
	return nil
}

func known(pattern, meaning, remedy string) explanation {
	return explanation{pattern: regexp.MustCompile(pattern), meaning: meaning, remedy: remedy}
}

// passing is known for what may be over a moment later.
func passing(pattern, meaning, remedy string) explanation {
	e := known(pattern, meaning, remedy)
	e.passing = true
	return e
}

// The patterns are compiled when something has failed, not whenever the runtime starts: it starts several times for
// every container.
var (
	causes   = sync.OnceValue(knownCauses)
	symptoms = sync.OnceValue(knownSymptoms)
)

// harmless matches what CRIU reports as an error in runs that succeed.
var harmless = regexp.MustCompile(`This is not fatal|rlimit: Can't setup RLIMIT_NOFILE for self|Unable to detach from \d+: No such process`)

// knownCauses explains messages of CRIU 4.2 that name the reason for a failure. More specific ones come first.
func knownCauses() []explanation {
	return []explanation{
		// What a checkpoint of an app can't hold, or only with an option.
		known(`Some file locks are hold by dumping tasks`,
			"the app holds file locks", "set file_locks = true (--file-locks)"),
		known(`Unresolved lock found pid (\d+)`,
			"a file lock of the app (process ${1}) belongs to a file that CRIU can't find", "make the app release it before the snapshot, or keep the locked file on a volume of its own"),
		known(`Connected TCP socket, consider using`,
			"the app has an open TCP connection", `set tcp = "close" (--tcp close), so that clones reconnect`),
		known(`Connected TCP socket in image`,
			"the snapshot holds an open TCP connection that this restore was not told to deal with", "restore with the options that the snapshot was built with"),
		known(`Need to set the --tcp-close options`,
			`the snapshot was built with tcp = "close", and this restore was not told so`, "restore with the options that the snapshot was built with"),
		known(`External socket is used\. Consider using --ext-unix-sk`,
			"the app is connected to a unix socket outside its container", "let it connect after the start only; for a datagram socket such as syslog's, on the host's network, ext_unix_sk = true (--ext-unix-sk) is enough"),
		known(`unix: Dangling connection \d+`,
			"the app is connected to a stream socket (unix) outside its container, or to one whose owner has ended, which CRIU can't freeze", "let it connect after the start only (D-Bus and database clients are the usual ones); ext_unix_sk does not help"),
		known(`unix: Unix socket \d+ without peer \d+`,
			"the app is connected to a datagram socket (unix) outside its container, or to one whose owner has ended, which CRIU can't freeze", "let it connect after the start only (syslog clients are the usual ones); ext_unix_sk helps on the host's network only"),
		known(`unix: FATAL: Peer \d+ unresolved for \d+`,
			"the snapshot holds a connection to a stream socket (unix) outside its container, which CRIU can't bring back", "let the app connect after the start only; ext_unix_sk does not help"),
		known(`unix: Can't connect \d+ socket: (.*)`,
			"the unix socket outside its container that the app was connected to is not there (${1})", "let the app connect after the start only, or see that the socket is at the same path"),
		known(`External socket found in image`,
			"the snapshot holds a connection to a unix socket outside its container that this restore was not told to deal with", "restore with the options that the snapshot was built with"),
		known(`Can't dump half of stream unix connection\. name: (.*); peer name: (.*)`,
			"the app is connected to the stream socket ${2} outside its container, which CRIU can't freeze", "let it connect after the start only (syslog and D-Bus clients are the usual ones)"),
		known(`Can't dump name-less external socket`,
			"the app shares an unnamed socket with a process outside its container", "let it open that socket after the start only"),
		passing(`In-flight connection \(l\)`,
			"a client was just connecting to the app", "build again, with nothing but the probe connecting"),
		passing(`In-flight connection on|Found a closed in-flight socket|Non-empty write queue on an in-flight socket`,
			"a client was just connecting to a unix socket of the app", "build again, with nothing connecting at that moment"),
		passing(`unix: Unix socket \d+ not found`,
			"a unix socket of the app was just made or accepted", "build again, when the app is idle"),
		passing(`zombie (\d+) \(comm (.*)\) found while seizing`,
			"a process of the app was just ending (${2})", "build again, when the app starts fewer processes"),
		known(`Unsupported proto (\d+) for socket`,
			"the app has a socket of a protocol that CRIU can't freeze (IP protocol ${1}; 262 is MPTCP)", "let it use plain TCP or UDP; Go programs need GODEBUG=multipathtcp=0"),
		known(`Can't dump ghost file (\S+) of (\d+) size, increase limit`,
			"the app holds the deleted file ${1} of ${2} bytes open, which is above ghost_limit", "set ghost_limit (--ghost-limit) to more than ${2}"),
		known(`Can't create link remap for (\S+)\. Use`,
			"the app holds ${1} open, which was deleted under that name but still exists under another", "set link_remap = true (--link-remap)"),
		known(`Can't link remap to (\S+)`,
			"the app holds ${1} open, which was deleted under that name but still exists under another, where no further link can be made to it", "close it before the snapshot"),
		known(`Unknown shit \d+ \(anon_inode:\[io_uring\]\)|\[io_uring\]`,
			"the app uses io_uring, which CRIU can't freeze", "turn io_uring off in the app (Node.js: UV_USE_IO_URING=0; PostgreSQL: io_method = worker)"),
		known(`send_fds failed \(-22\)`,
			"the app has a descriptor open that the kernel lets nobody pass on, which CRIU can't freeze: io_uring", "turn io_uring off in the app (PostgreSQL: io_method = worker; Node.js: UV_USE_IO_URING=0)"),
		known(`POKEDATA failed: Input/output error`,
			"the app has executable shared memory below its own code, where CRIU can't work", "turn off what maps it (PHP: opcache.jit_buffer_size=0)"),
		known(`fsnotify:\s+Can't dump that handle`,
			"the app watches (inotify) a file or directory that is deleted, or of a mount that CRIU can't find it on", "let it watch what has a name in its container, or begin to watch after the start"),
		known(`Cannot apply seals on memfd`,
			"the app has a sealed memory file (memfd) mapped, whose seals CRIU can't set again", "turn off what makes it, or let the app make it after the start only"),
		known(`Can't dump file (\d+) of that type \[\d+\] \((\S*) ?([^)]*)\)`,
			"the app's descriptor ${1} is of a kind that CRIU can't freeze (${2} ${3})", "close it before the snapshot, or turn the feature that opens it off (perf events, BPF, device files and fanotify are the usual ones)"),
		known(`Can't handle non-regular mapping on (\d+)'s map`,
			"the app (process ${1}) has a device or another special file mapped into its memory, which CRIU can't freeze", "close it before the snapshot"),
		known(`has uprobes vma`,
			"a tracer has uprobes in the app", "detach the tracer while the snapshot is built"),
		known(`Unknown shit \d+ \(([^)]*)\)`,
			"the app has ${1} mapped into its memory, which CRIU can't freeze", "turn the feature that maps it off"),
		known(`Control messages in queue, not supported|Unsupported scm`,
			"a socket of the app holds descriptors in flight that CRIU can't freeze", "build again, when the app is idle"),
		passing(`The socket has data to read`,
			"a netlink socket of the app holds unread messages", "build again, when the app is idle"),
		known(`Can't dump nested (\S+) namespace for (\d+)|Unable to dump more than one netns|Nested mount namespaces are not supported`,
			"a process in the container made a namespace of its own inside the container's", "turn off the app's own sandboxing (containers in containers, browsers, systemd units with PrivateTmp)"),
		known(`This process tree can only be restored in a new pid namespace|Unable to restore into an empty PID namespace`,
			"the snapshot needs a pid namespace of its own", "start the container without --pid=host"),
		known(`SEIZE \d+: |: ptrace(?:[:(]|$)|Unable to interrupt task`,
			"another process debugs the app, or the kernel does not let CRIU attach to it", "detach debuggers and tracers, and check that criu-docker runs as root with CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE"),
		known(`Unable to freeze cgroup (\S+)`,
			"the app could not be stopped in time: one of its processes hangs in the kernel", "look for processes in state D (slow network mounts are the usual reason), then build again"),
		known(`Timeout reached\. Try to interrupt`,
			"freezing took longer than CRIU's timeout", "look for processes in state D, then build again"),
		known(`[Zz]ombies? (?:\d+ \(comm .*\) found while seizing|with threads are not supported|with children)|Zombie thread not supported`,
			"the app has dead processes that CRIU can't freeze", "run the app under an init that reaps them (--init)"),
		known(`The root process \d+ is not a session leader`,
			"the app's first process does not lead a session", "start the container's process directly or under --init"),
		known(`A session leader of .* is outside of its pid namespace`,
			"a process of the app was started from outside its container (docker exec)", "wait until every exec into the donor has ended"),
		known(`Conflict with a dead task with the same PID`,
			"the app looks at /proc of a process that has ended", "build again, when the app is idle"),

		// Mounts and files that the clone has otherwise than the donor had.
		known(`No mapping for \d+:(\S+) mountpoint`,
			"the donor had a mount at ${1} that this container lacks", "start the clone with a mount at that path, or build a snapshot without it"),
		known(`Mount \d+:(\S+) is autodetected external mount`,
			"the mount at ${1} comes from outside the container and CRIU was not told of it", "check that runtime criu-docker-runc and runc are up to date"),
		known(`\d+:(\S+) doesn't have a proper root mount`,
			"CRIU can't tell where the mount at ${1} comes from", "mount the whole file system, or a directory of it that the container sees as a bind mount"),
		known(`Mount \d+ (\S+) \(.*\) has unreachable sharing`,
			"the mount at ${1} is shared with the host in a way that CRIU can't bring back", "mount it with private propagation"),
		known(`FS mnt (\S+) dev \S+ root \S+ unsupported`,
			"the container mounts a file system at ${1} that CRIU can't freeze", "give it to the container as a bind mount or volume"),
		known(`(\S+) is a fuse mount but not external`,
			"the container mounts a FUSE file system at ${1} itself", "mount it on the host and give it to the container as a volume"),
		known(`Open files on overmounted mounts are not supported yet; .* path=(\S+)`,
			"the app holds ${1} open, and another mount now covers it", "mount before the app opens its files"),
		known(`Can't lookup mount=\S+ for fd=(\S+) path=/([^/\s]+)$`,
			"the app's descriptor ${1} is a POSIX message queue (/${2}), or another file of that name outside its mounts, which CRIU can't freeze", "let the app open message queues after the start only"),
		known(`Can't lookup mount=\S+ for fd=(\S+) path=(\S+)`,
			"the app's descriptor ${1} (${2}) belongs to a file outside its container", "let Docker give the container its log and input as pipes (log driver json-file or local), and inherit no other descriptors"),
		known(`File (\S+) has bad size (\d+) \(expect (\d+)\)`,
			"/${1} has ${2} bytes here and had ${3} when the donor was frozen", "give the clone the same image, and volumes with the same content, or keep that file off the volume"),
		known(`File (\S+) has bad mode (\S+) \(expect (\S+?)\)?$`,
			"/${1} has mode ${2} here and had ${3} when the donor was frozen", "give the clone the same image, and volumes with the same content"),
		known(`File (\S+) has bad build-ID`,
			"/${1} is another program or library here than when the donor was frozen", "give the clone the same image"),
		known(`Can't open file (\S+) on restore: No such file or directory|Can't open file (\S+): No such file or directory`,
			"/${1}${2}, which the app had open, is missing here", "give the clone the same image, and volumes with the same content"),
		known(`Can't open file (\S+?)(?: on restore)?: (Permission denied|Read-only file system)`,
			"/${1}, which the app had open, can't be opened here (${2})", "give the clone the same user and write access to the same mounts"),
		known(`Can't (?:bind|stat)-?mount.*? (\S+): No such file or directory|Can't mount at (\S+): No such file`,
			"the mount point ${1}${2} is missing in this container", "give the clone the same image and mounts"),
		known(`Can't mount at (\S+): Not a directory`,
			"the mount at ${1} is a file here and was a directory when the donor was frozen, or the reverse", "give the clone mounts of the same kind"),
		known(`Can't restore tmpfs content|Can't dump tmpfs content`,
			"the content of a tmpfs mount could not be carried over", "make the clone's tmpfs at least as large as the donor's, leave its pids limit room for tar and gzip, and install both on the host"),
		known(`(?:Can't create|Can't write|Can't send|write).*No space left on device|: No space left on device`,
			"there is no space left on the device", "free space where it was being written: the build directory (--build-dir) for a freeze, the disk of Docker and of the snapshot cache for a start"),

		// Network.
		known(`^\[SOCK_DGRAM TCP_ESTABLISHED\] .*Can't bind inet socket.*: Cannot assign requested address`,
			"the app is a client with a connected UDP socket, which has the donor's own IP address, and the clone has another", "let it connect after the start only, or for each message (statsd, syslog and DNS clients are the usual ones)"),
		known(`^\[SOCK_DGRAM \w+\] .*Can't connect inet socket back: (.*)`,
			"a connected UDP socket of the app could not be connected again (${1})", "let it connect after the start only, or for each message; CRIU can't restore one of IPv6 that is connected to an IPv4 address (::ffff:…)"),
		known(`Can't bind (?:inet socket|id).*: Cannot assign requested address`,
			"the app listens on the donor's own IP address, which the clone does not have", "let the app listen on 0.0.0.0 or [::]"),
		known(`Can't bind (?:inet socket|id|on socket|packet|netlink).*: Address already in use`,
			"the address that the app listens on is taken in this network namespace", "with host or container networks start only one clone, or stop what listens there"),
		known(`Can't bind inet socket.*: Permission denied`,
			"the app listens on a port that it may not open here", "give the clone the donor's capabilities and sysctls (net.ipv4.ip_unprivileged_port_start)"),
		known(`Can't open ns' net/|Unable to find an external netns|Can't restore netns`,
			"the network namespace that this container was to be restored into is missing", "start it through criu-docker, with runtime criu-docker"),
		known(`Unsupported link \d+ \(type \d+ kind (.*)\)`,
			"the container has a network link of a kind that CRIU can't freeze (${1})", "use a bridge, host or container network"),
		known(`execvp\("?(ip6?tables[^"]*|nft)"?.*failed: No such file or directory`,
			"the program ${1} is missing on this host", "install iptables (Debian: apt-get install iptables)"),
		known(`Locking network failed|Locking connection failed|CRIU was built without libnftables support|Failed to lock TCP connection`,
			"CRIU could not block the container's network while freezing it", "install iptables and load its kernel modules (xt_mark, iptable_filter)"),
		known(`Can't restore ip6?tables dump`,
			"the container's firewall rules can't be restored on this host", "install iptables with legacy support (iptables-legacy)"),
		known(`execvp\("?([^",)]+)"?.*failed: No such file or directory`,
			"the program ${1} is missing on this host", "install it"),
		known(`TCP_REPAIR|Can't turn TCP repair mode ON|libsoccr_save\(\) failed`,
			"a TCP connection of the app could not be taken over", `set tcp = "close" (--tcp close), so that clones reconnect`),

		// Processors and kernels.
		known(`CPU xsave (?:max )?size mismatch \((\d+)/(\d+)\)`,
			"the processor that the snapshot was made on saves ${1} bytes of vector registers, this one ${2}", "restore on the same processor model, or build a snapshot on this one"),
		known(`CPU xfeatures has unsupported bits|FPU feature required by image is not supported|CPU (?:instruction )?capabilities do not match|missing support fxsave|FPU xsave area present`,
			"this processor lacks features that the app's was frozen with", "restore on the same processor model, or build a snapshot on this one"),
		known(`CPU vendor|Core march mismatch`,
			"the snapshot was made on another kind of processor", "restore on the same processor model, or build a snapshot on this one"),
		known(`Dumping seccomp filters not supported|Can't fetch filter on tid_real|couldn't suspend seccomp|PTRACE_O_SUSPEND_SECCOMP`,
			"the kernel can't take a container's seccomp filter along", "use a kernel with CONFIG_CHECKPOINT_RESTORE, or start the container with --security-opt seccomp=unconfined"),
		known(`seccomp: (?:PR_SET_SECCOMP|SECCOMP_SET_MODE_FILTER) returned (-?\d+)`,
			"the seccomp filter could not be set again (error ${1})", "restore on a kernel not older than the one that the snapshot was made on"),
		known(`rseq: can't restore as kernel doesn't support it|has rseq but kernel lacks|failed sys_rseq`,
			"the kernel lacks restartable sequences, which the app's C library uses", "use Linux 5.13 or later on every host"),
		known(`Time namespaces are not supported|Unable to create a new time namespace|Can't dump nested time namespace`,
			"the kernel has no time namespaces, which the app's clocks need", "use Linux 5.6 or later, with CONFIG_TIME_NS"),
		known(`(?:kerndat_\w+|\w+) failed when initializing kerndat`,
			"this kernel does not fit this version of CRIU", "run criu check, and install CRIU 4.2 or later"),
		known(`can't write lsm profile|failed openat .*attr|apparmor parsing failed|apparmor LSM specified but|couldn't open apparmor load file|write AA policy`,
			"the AppArmor or SELinux profile that the donor ran under is missing here", "load the same profile on this host (Docker loads docker-default when it starts), or run donor and clones with --security-opt apparmor=unconfined"),
		known(`mismatched lsm types`,
			"the donor ran under another Linux security module than this host has", "restore on hosts with the same one (AppArmor or SELinux)"),

		// Processes, terminals, control groups.
		known(`Can't fork for (\d+): File exists|Pid \d+ do not match expected (\d+)`,
			"process id ${1}${2} is taken in the pid namespace that the snapshot is restored into", "give every clone a pid namespace of its own (no --pid=host or --pid=container:…), and don't exec into it before it runs"),
		known(`Can't fork for \d+: (Resource temporarily unavailable|Cannot allocate memory)`,
			"the app's processes could not be created (${1})", "raise the clone's pids limit or memory"),
		known(`Current [sg]id \d+ intersects with`,
			"the restoring process's session has a number that the snapshot needs for itself", "restore through criu-docker-runc, in a new pid namespace"),
		known(`Don't have tty to inherit session from|Found dangling tty|Can't open slave (?:tty|pty)|Unable to find a tty driver|ctty inheritance detected|No CTL for TTY dump`,
			"the app uses a terminal that does not belong to its container", "run donor and clones without a terminal (no -t)"),
		known(`Cgroup dir (\S+) doesn't exist|No cg_controller_entry found for (\S+)|controller (\S+) not found`,
			"a control group that the donor was in (${1}${2}${3}) can't be made here", "restore on hosts with the same cgroup version, and leave manage_cgroups alone"),
		known(`Can't move .* into (\S+)|Failed writing .* to (\S+)|couldn't set cgns prefix|couldn't unshare cgns|Can't make cgroup dir`,
			"the clone's control groups could not be set up", "check its limits against the host's, and that hosts have the same cgroup version"),
		known(`CG paths mismatch`,
			"the clone's control groups do not match the donor's", "restore on hosts with the same cgroup version"),
		known(`Setting loginuid`,
			"the kernel does not let CRIU set the audit login id", "give criu-docker-runc CAP_AUDIT_CONTROL"),
		known(`Can't [gs]et rlimit \d+: Operation not permitted`,
			"CRIU lacks CAP_SYS_RESOURCE, which it needs for a process that isn't root", "let dockerd and containerd run with all capabilities of root (criu-docker doctor names those that are missing)"),
		// A memory limit never makes mmap(2) fail: these are reservations of address space.
		known(`Unable to (?:reserve memory \(0xfffffffffffffff4\)|map ANON_VMA: Cannot allocate memory)`,
			"the app reserves more address space than the kernel grants to a restore on this host", "restore it with memory = eager, or set sysctl vm.overcommit_memory to 1 on the host"),
		known(`Unable to (?:reserve memory|remap a private vma).*Cannot allocate memory|: Cannot allocate memory`,
			"there is not enough memory", "raise the clone's memory limit to at least the donor's resident size, or free memory on the host"),
		known(`Can't set kernel pid_max`,
			"the host allows fewer process ids than the snapshot needs", "raise sysctl kernel.pid_max"),
		known(`Too big FD number to restore (\d+)`,
			"the snapshot has descriptor ${1} open, beyond this container's limit", "raise ulimit nofile for the clone"),

		// The images themselves.
		known(`(?:Head m|M)agic doesn't match for (\S+)`,
			"CRIU's image ${1} is damaged, or of another version of CRIU", "run criu-docker verify, and use a CRIU not older than the one that made the snapshot"),
		known(`Too old image|Not supported images version|Unknown image format`,
			"CRIU's images are of another version of CRIU", "use a CRIU not older than the one that made the snapshot"),
		known(`Unexpected EOF|Img trimmed|Reached EOF unexpectedly|Can't read async pr bytes|Image corrupted|Images? corrupt|image corruption|Corrupted ghost image|No pagemap-`,
			"CRIU's images are incomplete or damaged", "run criu-docker verify and criu-docker cache prune, or build it again"),
		known(`Can't open core data for (\d+)|Can't find regfile for|No entry for reg-file-ID`,
			"CRIU's images are incomplete", "run criu-docker verify and criu-docker cache prune, or build it again"),
		known(`Unable to open (\S+\.img|pages-\S+): (.*)|Can't open dir (\S+): (.*)`,
			"CRIU can't open ${1}${3} (${2}${4})", "run criu-docker verify, and look at the permissions of the snapshot cache"),
		known(`Missing required plugin: (\S+)`,
			"the snapshot needs CRIU's plugin ${1}", "install it on this host"),
		known(`Aborting restore due to pre-restore script ret code|Aborting restore due to post-restore script|(?:[Pp]re|[Pp]ost)[- ]\w+ script`,
			"a hook of the runtime failed while CRIU waited for it", "look at the runtime's log for the hook's own message"),
	}
}

// knownSymptoms explains messages that only follow from a cause; they count where CRIU named none.
func knownSymptoms() []explanation {
	return []explanation{
		known(`(\d+) killed by signal 9`,
			"process ${1} was killed while it was being restored", "look for the kernel's out-of-memory killer (dmesg), and raise the clone's memory limit to at least the donor's resident size"),
		known(`(\d+) killed by signal (\d+)`,
			"process ${1} died of signal ${2} while it was being restored", "restore on the same processor model and kernel that the snapshot was made on"),
		known(`Unable to open fd=(\d+)`,
			"the app's descriptor ${1} could not be opened again", "give the clone the same image and mounts"),
		known(`: Operation not permitted`,
			"CRIU lacks a permission", "run dockerd as root, outside a user namespace; rootless Docker and userns-remap can't be used"),
	}
}
