package main

import (
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// resource is a row for one function in resources/.
func resource(name, module, function string, change ...func(*row)) row {
	r := row{
		Name: name, Image: resources, Path: "/",
		Command: []string{"python3", "-u", "/compat/resources/serve.py", module, function},
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func limit(pattern, note string) func(*row) {
	return func(r *row) { r.Limit, r.Note = pattern, note }
}

func note(text string) func(*row) { return func(r *row) { r.Note = text } }

// asRoot is for what needs it, with Docker's usual capabilities.
func asRoot(r *row) { r.User = "0:0" }

func host(change func(*container.HostConfig)) func(*row) { return func(r *row) { r.Host = change } }

// withAdmin is for root with a capability that Docker's default filter of system calls goes by.
func withAdmin(r *row) {
	asRoot(r)
	host(func(h *container.HostConfig) { h.CapAdd = []string{"SYS_ADMIN"} })(r)
}

func mounted(kind mount.Type, target string) func(*row) {
	return host(func(h *container.HostConfig) { h.Mounts = []mount.Mount{{Type: kind, Target: target}} })
}

var unconfined = host(func(h *container.HostConfig) { h.SecurityOpt = []string{"seccomp=unconfined"} })

var readOnly = host(func(h *container.HostConfig) {
	h.ReadonlyRootfs = true
	h.Tmpfs = map[string]string{"/var/lib/app": "uid=1000,mode=700", "/tmp": ""}
})

var resourceRows = []row{
	resource("UDP client, IPv4", "sockets", "udp_connected"),
	resource("UDP client, IPv6", "sockets", "udp_connected_v6"),
	resource("UDP client, IPv4 by an IPv6 socket", "sockets", "udp_connected_mapped"),
	resource("UDP on all addresses", "sockets", "udp_wildcard"),
	resource("UDP on the container's address", "sockets", "udp_own_address"),
	resource("UDP on the container's address, IPv6", "sockets", "udp_own_address_v6"),
	resource("UDP bound to a device", "sockets", "udp_device", asRoot),
	resource("UDP with a datagram unread", "sockets", "udp_unread", note("What had not been read is gone, as a datagram may be at any time.")),
	resource("UDP, 20 threads that wait", "sockets", "many_waiting"),
	resource("TCP listener, IPv6 and IPv4", "sockets", "tcp_wildcard_v6"),
	resource("TCP listener on the container's address", "sockets", "tcp_own_address"),
	resource("TCP listener on the container's address, IPv6", "sockets", "tcp_own_address_v6"),
	resource("TCP listener bound to a device", "sockets", "tcp_device", asRoot),
	resource("TCP bound, not listening", "sockets", "tcp_bound"),
	resource("TCP connected", "sockets", "tcp_connected", note("The connection ends, and the app connects again; `tcp = \"established\"` keeps it for a single clone.")),
	resource("TCP half closed", "sockets", "tcp_half_closed"),
	resource("MPTCP", "sockets", "mptcp", limit(`Unsupported proto 262`, "Use plain TCP. Go programs listen so by default: `GODEBUG=multipathtcp=0`.")),
	resource("Unix stream", "sockets", "unix_stream"),
	resource("Unix seqpacket", "sockets", "unix_seqpacket"),
	resource("Unix datagram", "sockets", "unix_datagram"),
	resource("Unix listener with a file", "sockets", "unix_listening"),
	resource("Unix listener, abstract", "sockets", "unix_abstract"),
	resource("Unix listener whose file is deleted", "sockets", "unix_unlinked"),
	resource("Unix, descriptors in flight", "sockets", "unix_descriptors_in_flight"),
	resource("Netlink", "sockets", "netlink_route"),
	resource("Raw socket", "sockets", "raw", asRoot),
	resource("Packet socket", "sockets", "packet", asRoot),
	resource("Vsock", "sockets", "vsock", unconfined, limit(`family 40`, "")),

	resource("epoll", "events", "epoll"),
	resource("epoll, edge-triggered", "events", "epoll_edge_triggered"),
	resource("epoll in epoll", "events", "epoll_of_epoll"),
	resource("epoll of a closed descriptor", "events", "epoll_forgotten"),
	resource("eventfd", "events", "eventfd"),
	resource("eventfd as a semaphore", "events", "eventfd_semaphore", limit(`BlockingIOError`, "CRIU makes a counter of it; the build warns.")),
	resource("timerfd", "events", "timerfd"),
	resource("timerfd that is pending", "events", "timerfd_pending"),
	resource("timerfd of the wall clock", "events", "timerfd_wall"),
	resource("POSIX timer", "events", "posix_timer"),
	resource("Interval timer", "events", "interval_timer"),
	resource("Clocks", "events", "clocks", note("The monotonic clocks go on where they stopped; the wall clock jumps.")),
	resource("signalfd", "events", "signalfd"),
	resource("inotify on the container's disk", "events", "inotify_disk"),
	resource("inotify on a file of the image", "events", "inotify_file"),
	resource("inotify on a tree of 100 directories", "events", "inotify_tree"),
	resource("inotify on a tmpfs", "events", "inotify_tmpfs"),
	resource("fanotify", "events", "fanotify", withAdmin),
	resource("pidfd", "events", "pidfd"),
	resource("io_uring", "events", "io_uring", unconfined, limit(`send_fds failed`, "Docker's default filter refuses it.")),
	resource("perf event", "events", "perf_event", withAdmin, limit(`anon_inode:\[perf_event\]`, "")),
	resource("Condition variable", "events", "condition_variable"),

	resource("Pipe", "ipc", "pipe"),
	resource("Pipe, enlarged and full", "ipc", "pipe_full"),
	resource("FIFO", "ipc", "fifo"),
	resource("FIFO without writers", "ipc", "fifo_reader"),
	resource("Pseudo-terminal", "ipc", "terminal"),
	resource("POSIX message queue", "ipc", "posix_queue", limit(`POSIX message queue`, "")),
	resource("System V message queue", "ipc", "sysv_queue"),
	resource("System V semaphore", "ipc", "sysv_semaphore"),
	resource("System V shared memory", "ipc", "sysv_memory"),
	resource("POSIX semaphore without a name", "ipc", "posix_semaphore"),
	resource("POSIX semaphore with a name", "ipc", "named_semaphore"),
	resource("POSIX shared memory", "ipc", "shared_memory_named"),
	resource("POSIX shared memory, unlinked", "ipc", "shared_memory_unlinked"),
	resource("Pool of worker processes", "ipc", "worker_pool"),
	resource("Queue between processes", "ipc", "queue_between_processes"),
	resource("Shared anonymous memory", "ipc", "shared_anonymous"),
	resource("Futex in shared memory", "ipc", "futex"),
	resource("Robust mutex", "ipc", "robust_mutex"),

	resource("Private memory", "memory", "private"),
	resource("Shared memory", "memory", "shared"),
	resource("Executable memory", "memory", "private_executable"),
	resource("Executable shared memory below the code", "memory", "shared_executable", limit(`POKEDATA failed`, "PHP: `opcache.jit_buffer_size = 0`, also where the JIT is off.")),
	resource("memfd", "memory", "memory_file"),
	resource("memfd, sealed", "memory", "memory_file_sealed"),
	resource("memfd, sealed and mapped", "memory", "memory_file_sealed_mapped", limit(`Cannot apply seals`, "")),
	resource("memfd, writable here and executable there", "memory", "memory_file_two_views"),
	resource("memfd of huge pages", "memory", "memory_file_huge", limit(`Cannot allocate memory`, "Not tried: the lab has no huge pages.")),
	resource("Huge pages", "memory", "huge_pages", limit(`Cannot allocate memory`, "Not tried: the lab has no huge pages.")),
	resource("Transparent huge pages", "memory", "transparent_huge_pages"),
	resource("1 TiB reserved", "memory", "reserved_1_tib", limit(`of address space in one piece`, "Starts are eager by default (`memory = auto`), unless `vm.overcommit_memory` is 1.")),
	resource("64 TiB reserved", "memory", "reserved_64_tib", limit(`of address space in one piece`, "Starts are eager by default (`memory = auto`), unless `vm.overcommit_memory` is 1.")),
	resource("MAP_DROPPABLE", "memory", "droppable"),
	resource("Secret memory", "memory", "secret", limit(`secretmem`, "")),
	resource("userfaultfd of the app's own", "memory", "own_userfaultfd", unconfined, limit(`userfaultfd`, "Docker's default filter refuses it.")),
	resource("Guard regions", "memory", "guards"),
	resource("Guard regions, without a seccomp filter", "memory", "guards", unconfined, limit(`MADV_GUARD_INSTALL`, "Starts are eager by default (`memory = auto`).")),
	resource("Locked memory", "memory", "locked"),
	resource("Discarded memory", "memory", "discarded"),
	resource("Memory that children don't get", "memory", "not_inherited"),
	resource("Memory shared until written", "memory", "copied_on_write"),
	resource("60,000 mappings", "memory", "many_mappings"),
	resource("Deep stack", "memory", "stack_deep"),

	resource("File in the container's layer", "files", "layer"),
	resource("File on a volume", "files", "volume", asRoot, mounted(mount.TypeVolume, "/volume"), note("It is in the snapshot, and put on a volume that lacks it ([mounts.md](mounts.md)).")),
	resource("Files in /alloc, /local and /secrets", "files", "task_directories", asRoot, host(func(h *container.HostConfig) {
		for _, target := range []string{"/alloc", "/local", "/secrets"} {
			h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeVolume, Target: target})
		}
	}), note("As on volumes. Nomad's own tests are with the driver.")),
	resource("File on a tmpfs", "files", "tmpfs", asRoot, mounted(mount.TypeTmpfs, "/tmpfs")),
	resource("File position", "files", "position"),
	resource("File position, shared with a child", "files", "shared_position"),
	resource("Deleted file", "files", "deleted"),
	resource("Deleted file of 100 MiB", "files", "large_deleted", limit(`increase limit`, "Set `ghost_limit` to more than the size of the largest deleted file.")),
	resource("File that never had a name", "files", "unnamed"),
	resource("File deleted under one of two names", "files", "deleted_under_one_name"),
	resource("Sparse file", "files", "sparse", limit(`the holes are filled`, "As with `docker commit`, a snapshot has zeros in place of holes; the build names files that are larger for it.")),
	resource("File mapped shared", "files", "mapped_shared"),
	resource("File mapped privately", "files", "mapped_private"),
	resource("File mapped and deleted", "files", "mapped_deleted"),
	resource("Lock by flock", "files", "locked_flock"),
	resource("Lock by fcntl", "files", "locked_posix"),
	resource("Lock of an open file", "files", "locked_open_file"),
	resource("Lease", "files", "lease"),
	resource("Directory, and a path", "files", "directory"),
	resource("Working directory", "files", "working_directory"),
	resource("Working directory that is deleted", "files", "working_directory_deleted"),
	resource("Mode, owner, times", "files", "changed_of_image"),
	resource("Extended attributes", "files", "extended_attribute", limit(`No data available`, "As with `docker commit`, a snapshot has no `user.*` attributes; the build warns.")),
	resource("Devices", "files", "device"),
	resource("Files of /proc", "files", "proc"),
	resource("Files of a child's /proc", "files", "proc_of_child"),
	resource("Standard output", "files", "standard_output"),
	resource("900 open files", "files", "many"),
	resource("Log that is always written", "files", "written_meanwhile"),
	resource("Read-only root, log on a tmpfs", "files", "layer", readOnly),

	resource("Zombie", "processes", "zombie"),
	resource("Orphan and subreaper", "processes", "orphan"),
	resource("Stopped child", "processes", "stopped", limit(`is stopped`, "On hosts with cgroup v1: let the app continue it before it is ready.")),
	resource("1,000 processes", "processes", "thousand"),
	resource("500 threads", "processes", "threads"),
	resource("Process whose first thread has ended", "processes", "main_thread_gone", limit(`Zombies with threads`, "")),
	resource("Sessions and process groups", "processes", "sessions"),
	resource("Signals: handlers, mask, pending", "processes", "signals"),
	resource("Stack for signals", "processes", "alternate_stack"),
	resource("Nice value, limits, umask, name", "processes", "attributes"),
	resource("Affinity to processors", "processes", "affinity", limit(`AssertionError: processors`, "Clones run on all processors that they may; the build warns. A container's own limit (`cpuset`) holds.")),
	resource("Seccomp filter of the app's own", "processes", "seccomp_filter"),
	resource("Seccomp filter of all threads", "processes", "seccomp_filter_of_all_threads"),
	resource("Seccomp filter of one thread", "processes", "seccomp_filter_of_one_thread"),
	resource("Seccomp filter that asks", "processes", "seccomp_notify", limit(`seccomp notify`, "")),
	resource("Landlock", "processes", "landlock", limit(`the app may write again`, "**Clones are without it, and nobody is told**: the kernel doesn't say which process has it. Don't freeze an app whose safety depends on Landlock.")),
	resource("Traced child", "processes", "traced", unconfined, limit(`is traced by another process`, "Detach debuggers before the app is ready.")),
	resource("User namespace", "processes", "user_namespace", unconfined, limit(`namespace of its own`, "Turn off the app's own sandboxing.")),
	resource("Network namespace", "processes", "network_namespace", withAdmin, limit(`more than one netns`, "")),
	resource("Mount namespace", "processes", "mount_namespace", withAdmin),
	resource("Child that starts processes all the time", "processes", "forking"),
	resource("Programs started for each answer", "processes", "transient"),
	resource("Hostname", "processes", "hostname"),
	resource("Exit code after SIGTERM", "processes", "exit_status"),
	resource("Keyring", "processes", "keyring", unconfined, limit(`system call 250`, "Clones lack the keys. Docker's default filter refuses them.")),
}
