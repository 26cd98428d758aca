package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Directories of a node that are real directories of the host instead of parts of the overlay: Docker's storage can't
// lie on an overlay, and all of them shall outlive the node's root.
var nodeData = map[string]string{
	"docker":      "/var/lib/docker",
	"containerd":  "/var/lib/containerd",
	"containers":  "/var/lib/containers",
	"criu-docker": "/var/lib/criu-docker",
	"nomad":       "/var/lib/nomad",
	"gcs":         "/var/lib/fake-gcs",
}

// enterRoot makes the node's own file system the root of this process, which must be alone in a new mount namespace.
// Nothing of it is seen outside of the namespace, so nothing has to be unmounted on the host.
func enterRoot(nodeDir string, spec nodeSpec) error {
	// The host's mounts stay visible below /host and new ones arrive there, but ours don't go back.
	if err := mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	root := filepath.Join(nodeDir, "root")
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(nodeDir, d), 0o755); err != nil {
			return fmt.Errorf("node directory: %w", err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		spec.Rootfs, filepath.Join(nodeDir, "upper"), filepath.Join(nodeDir, "work"))
	if err := mount("overlay", root, "overlay", 0, options); err != nil {
		return err
	}
	// Unbindable for as long as the host is being bound below it, or the tree would contain itself.
	if err := mount("", root, "", unix.MS_UNBINDABLE, ""); err != nil {
		return err
	}
	if err := mountAll(root, nodeDir, spec); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("chdir %s: %w", root, err)
	}
	// Old root on top of new root, then away with it: needs no directory to put the old root in.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root %s: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	// As systemd leaves it on a real machine: volumes with propagation need a shared source.
	if err := mount("", "/", "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return mount("", "/", "", unix.MS_SHARED, "")
}

type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func mountAll(root, nodeDir string, spec nodeSpec) error {
	const rbind, bind = unix.MS_BIND | unix.MS_REC, unix.MS_BIND
	const quiet = unix.MS_NOSUID | unix.MS_NODEV
	mounts := []mountPoint{
		{"/", "/host", "", rbind, ""},
		{"proc", "/proc", "proc", quiet | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", quiet | unix.MS_NOEXEC, ""}, // new, to show this network namespace's devices
		{"tmpfs", "/run", "tmpfs", quiet, "mode=755"},          // CRIU keeps its cache of kernel features only on a tmpfs
		{"tmpfs", "/tmp", "tmpfs", quiet, "mode=1777"},
		{nodeDir, "/lab", "", bind, ""},
	}
	if spec.CgroupV2 {
		mounts = append(mounts, mountPoint{"cgroup2", "/sys/fs/cgroup", "cgroup2", quiet | unix.MS_NOEXEC, ""})
	} else {
		mounts = append(mounts, mountPoint{"/sys/fs/cgroup", "/sys/fs/cgroup", "", rbind, ""})
	}
	if spec.Systemd {
		// Read-only until systemd has tried to set what is everybody's; see runAgent.
		sys := filepath.Join(root, "/proc/sys")
		mounts = append(mounts, mountPoint{sys, "/proc/sys", "", bind, ""}, mountPoint{"", "/proc/sys", "", bind | unix.MS_REMOUNT | unix.MS_RDONLY, ""})
	} else {
		mounts = append(mounts, mountPoint{"/dev", "/dev", "", rbind, ""}, mountPoint{"tmpfs", "/dev/shm", "tmpfs", quiet, "mode=1777"})
	}
	for dir, target := range nodeData {
		source := filepath.Join(nodeDir, dir)
		if err := os.MkdirAll(source, 0o711); err != nil {
			return fmt.Errorf("node directory: %w", err)
		}
		mounts = append(mounts, mountPoint{source, target, "", bind, ""})
	}
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("mount point: %w", err)
		}
		if err := mount(m.source, target, m.fstype, m.flags, m.data); err != nil {
			return err
		}
	}
	if spec.Systemd {
		return ownDevices(filepath.Join(root, "dev"))
	}
	return nil
}

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", strings.TrimSpace(fstype+" "+source), target, err)
	}
	return nil
}
