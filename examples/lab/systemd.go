package main

import (
	"context"
	"crypto/md5" //nolint:gosec // a machine id has as many bytes, and is no secret
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// unitDir is where an administrator's units are.
const unitDir = "/etc/systemd/system"

// agentUnit answers the node's control socket. It is not in the way of what other units do.
const agentUnit = `[Unit]
Description=Control socket of the lab

[Service]
Type=exec
ExecStart=/lab/bin/lab agent
Delegate=yes
Restart=on-failure

[Install]
WantedBy=multi-user.target
`

// agentCgroup is the agent's, and that of the commands that clients run.
const agentCgroup = "/system.slice/lab.service"

// masked are units that want hardware, or would set up the machine, whose kernel is everybody's.
var masked = []string{
	"systemd-sysctl.service", "systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
	"systemd-udevd-varlink.socket", "systemd-udev-trigger.service", "systemd-udev-settle.service", "systemd-modules-load.service",
	"systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount", "dev-hugepages.mount",
	"dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
	"systemd-random-seed.service", "systemd-remount-fs.service", "systemd-journald-audit.socket", "systemd-pstore.service",
	"kmod-static-nodes.service", "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service", "apparmor.service",
	"console-getty.service", "getty@tty1.service", "getty-static.service", "systemd-networkd.service", "systemd-networkd.socket",
	"podman-auto-update.timer", "podman-restart.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
	"fstrim.timer", "e2scrub_all.timer", "e2scrub_reap.service",
}

// becomeSystemd sets the node up and gives process 1 over to systemd, which starts the agent as a service.
func becomeSystemd(dir string, spec nodeSpec) error {
	if err := enterRoot(dir, spec); err != nil {
		return err
	}
	if err := configureNode(spec); err != nil {
		return err
	}
	id := md5.Sum([]byte(dir)) //nolint:gosec // see above
	err := writeFiles(map[string]string{
		"/etc/machine-id":                  hex.EncodeToString(id[:]) + "\n", // without one, systemd takes this for the first boot
		"/etc/fstab":                       "",
		filepath.Join(unitDir, agentName):  agentUnit,
		"/etc/systemd/journald.conf.d/lab": "[Journal]\nStorage=volatile\n",
	})
	if err != nil {
		return err
	}
	links := map[string]string{filepath.Join(unitDir, "multi-user.target.wants", agentName): filepath.Join(unitDir, agentName)}
	for _, unit := range masked {
		links[filepath.Join(unitDir, unit)] = "/dev/null"
	}
	for path, target := range links {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("units: %w", err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("units: %w", err)
		}
		if err := os.Symlink(target, path); err != nil {
			return fmt.Errorf("units: %w", err)
		}
	}
	env := []string{"container=criu-docker-lab", "PATH=" + nodePath}
	err = unix.Exec("/sbin/init", []string{"/sbin/init", "--unit=multi-user.target", "--show-status=false"}, env)
	return fmt.Errorf("become systemd: %w", err)
}

const agentName = "lab.service"

// agentCommand is what answers for a node whose process 1 is systemd.
func agentCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "agent",
		Short:  "Answer the control socket of a node that runs systemd (started by systemd)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			return runAgent(ctx)
		},
	}
}

func runAgent(ctx context.Context) error {
	spec, err := readSpec("/lab")
	if err != nil {
		return err
	}
	socket := vmSocket
	if spec.VM == "" {
		socket = sharedSocket
		// systemd has set by now what it sets for the whole machine, and could not.
		if err := mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := os.Setenv("PATH", nodePath); err != nil {
		return fmt.Errorf("environment: %w", err)
	}
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	s := newSupervisor("/lab/log", agentCgroup)
	go s.reap()
	c := &controller{spec: spec, supervisor: s, services: &units{supervisor: s}}
	go c.serve(listener)
	<-ctx.Done()
	return nil
}

// stopSignal asks the process 1 of the node to end it.
func (n *Node) stopSignal() unix.Signal {
	if spec, err := readSpec(n.Dir); err == nil && spec.Systemd {
		const rtmin = 34
		return rtmin + 4 // systemd: power off
	}
	return unix.SIGTERM
}

// ownDevices are what a machine has at least, and CRIU and containers need. Those of the host would be systemd's to change.
func ownDevices(dev string) error {
	if err := mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	for name, number := range map[string][2]uint32{
		"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9}, "kmsg": {1, 11}, "tty": {5, 0}, "fuse": {10, 229},
		"userfaultfd": {10, 126}, "net/tun": {10, 200},
	} {
		path := filepath.Join(dev, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(number[0], number[1]))); err != nil {
			return fmt.Errorf("device %s: %w", path, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
	}
	for name, options := range map[string]string{"pts": "newinstance,ptmxmode=666,mode=620", "shm": "mode=1777", "mqueue": ""} {
		fstype := map[string]string{"pts": "devpts", "shm": "tmpfs", "mqueue": "mqueue"}[name]
		if err := os.Mkdir(filepath.Join(dev, name), 0o755); err != nil {
			return fmt.Errorf("devices: %w", err)
		}
		if err := mount(fstype, filepath.Join(dev, name), fstype, unix.MS_NOSUID|unix.MS_NOEXEC, options); err != nil {
			return err
		}
	}
	return nil
}

// unitText is a service as a unit of systemd. HashiCorp's for Nomad kills its main process only: what runs a task outlives the agent.
func unitText(s service) string {
	var b strings.Builder
	b.WriteString(unitMark + "[Unit]\nDescription=" + s.Name + " of the lab\n")
	for _, other := range s.After {
		b.WriteString("After=" + other + ".service\n")
	}
	b.WriteString("\n[Service]\nKillMode=process\nKillSignal=SIGINT\nRestart=on-failure\nRestartSec=1\nLimitNOFILE=65536\nTasksMax=infinity\nOOMScoreAdjust=-1000\n")
	for _, env := range append([]string{"PATH=" + nodePath, "HOME=/root"}, s.Env...) {
		b.WriteString("Environment=" + env + "\n")
	}
	b.WriteString("ExecStart=" + strings.Join(s.Argv, " ") + "\n")
	fmt.Fprintf(&b, "StandardOutput=append:/lab/log/%[1]s.log\nStandardError=append:/lab/log/%[1]s.log\n", s.Name)
	return b.String()
}
