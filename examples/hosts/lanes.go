package main

// lane is one kind of host.
type lane struct {
	Name     string
	What     string   // for the page
	Up       []string // flags of lab up
	Then     []string // those with which its engine is replaced while clones run; none: it is restarted
	Packages bool     // the product is installed from its packages, and by the README's own words

	Slow bool // twenty times as slow as others: no KVM

	// Images have other ids in containerd's store, so that a snapshot of one kind of store fits none of the other.
	Containerd bool
}

var lanes = []lane{
	{Name: "node", What: "Docker 28 without systemd, on the machine's own cgroups; runc 1.3; overlay2"},
	{Name: "cgroup2", What: "the same, with cgroup v2 only", Up: []string{"--cgroup-v2"}},
	{Name: "systemd", What: "Debian with systemd, its cgroup driver, and cgroup v2 only; installed from the deb", Up: []string{"--systemd", "--bare"}, Packages: true},
	{Name: "vm", What: "a virtual machine: Debian's own kernel, AppArmor in force, systemd, all controllers; installed from the deb", Up: []string{"--vm", "--bare"}, Packages: true, Slow: true},
	{Name: "containerd", What: "Docker 28, with images in containerd's store", Up: []string{"--image-store=containerd"}, Containerd: true},
	{Name: "docker29", What: "Docker 29, with images in containerd's store, as is its default", Up: []string{"--docker=29", "--image-store=containerd"}, Containerd: true},
	{Name: "docker29-overlay2", What: "Docker 29, with overlay2, as after an upgrade", Up: []string{"--docker=29"}},
	{Name: "docker28-29", What: "Docker 28 with live-restore, replaced by Docker 29 while clones run", Up: []string{"--live-restore"}, Then: []string{"--live-restore", "--docker=29"}},
	{Name: "nomad-1.10", What: "Docker 28, with Nomad 1.10", Up: []string{"--nomad-version=1.10"}},
	{Name: "runc-1.4", What: "Docker 28 with runc 1.4", Up: []string{"--runc=1.4"}},
	{Name: "runc-1.5", What: "Docker 28 with runc 1.5", Up: []string{"--runc=1.5"}},
}

// step is one thing that is tried on each lane.
type step struct {
	Name, What string
	packages   bool // only where the product is installed from its packages
}

// steps are in the order of the page's columns.
var steps = []step{
	{"readme", "the README's way, word for word, on a machine that has Docker and a package manager", true},
	{"doctor", "`criu-docker doctor` finds nothing amiss", false},
	{"build", "`criu-docker build` publishes a snapshot", false},
	{"clones", "two clones, each with a hostname and published ports of its own, and their output in `docker logs`", false},
	{"limits", "the clones' cgroups have their limits, of memory and of processes", false},
	{"apparmor", "clones are in the AppArmor profile that their configuration names", false},
	{"pause", "`docker pause` and `unpause`", false},
	{"exec", "`docker exec`", false},
	{"restart", "`docker restart` brings a clone back, hot", false},
	{"stop", "`docker stop` ends a clone as it does a cold container", false},
	{"terraform", "`terraform apply` publishes a snapshot, `destroy` takes it away", false},
	{"nomad", "a Nomad job: two hot allocations and a cold one, each with its hostname", false},
	{"upgrade", "packages are replaced by older ones and by newer ones again, under running clones", true},
	{"engine", "a clone with a restart policy comes up hot when dockerd was restarted or replaced; with live-restore, it has run on", false},
	{"reboot", "… and when the host was; a real one in the virtual machine", false},
	{"others", "clones of what the other lanes have frozen; where images have other ids, the reason says so", false},
	{"left", "nothing is left of any of it", false},
	{"purge", "the packages go when the runtime is registered no more, and Docker runs on", true},
}
