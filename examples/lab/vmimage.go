package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// vmRecipe is the nodes' Debian with what a machine of its own has besides: a kernel, AppArmor, and a way in. The kernel is unpacked
// without its scripts, which would make a large initrd.
func vmRecipe() recipe {
	r := nodeRecipe()
	r.Setup = `echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/fast` + aptInstall("udev apparmor openssh-server") + `
cd /tmp
kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-\([0-9]\)/\1/p')
apt-get -q download linux-base-$kernel linux-binary-$kernel linux-modules-$kernel
for p in *.deb; do dpkg -x $p /; done
rm *.deb
depmod $(ls /usr/lib/modules)
`
	return r
}

// vmBoot makes, in $2, what QEMU boots of the root file system $1: its kernel, an initrd that knows the disk, and the disk. An initrd
// with all modules would take a minute to unpack where there is no KVM.
const vmBoot = `
cd "$2"
kernel=$(ls "$1/usr/lib/modules")
cp "$1/boot/vmlinuz-$kernel" vmlinuz || cp "$1/usr/lib/modules/$kernel/vmlinuz" vmlinuz
mkdir -p initrd.d/bin initrd.d/mod initrd.d/new
cp "$1/usr/bin/busybox" initrd.d/bin/
n=10
for m in $(for m in virtio_pci virtio_blk ext4; do chroot "$1" modprobe -S "$kernel" --show-depends $m; done | sed -n 's/^insmod \([^ ]*\).*/\1/p'); do
    name=$(basename "${m%%.ko*}").ko
    [ -z "$(ls initrd.d/mod | grep "^[0-9]*-$name$" || true)" ] || continue
    case $m in
    *.xz) xz -dc "$1$m" ;;
    *.zst) chroot "$1" zstd -qdc "$m" ;;
    *) cat "$1$m" ;;
    esac > "initrd.d/mod/$n-$name"
    n=$((n + 1))
done
cat > initrd.d/init <<'END'
#!/bin/busybox sh
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs dev /dev
for m in /mod/*; do $busybox insmod $m; done
until [ -b /dev/vda ]; do $busybox sleep 0.1; done
$busybox mount -t ext4 /dev/vda /new || exec $busybox sh
$busybox mount --move /dev /new/dev
$busybox umount /proc /sys
exec $busybox switch_root /new /sbin/init
END
chmod 755 initrd.d/init
cp -r initrd.d "$1/tmp/"
chroot "$1" sh -c 'cd /tmp/initrd.d && find . | busybox cpio -o -H newc' | gzip -1 > initrd
rm -r initrd.d "$1/tmp/initrd.d"
truncate -s 16G disk
mkfs.ext4 -q -F -d "$1" -L root disk
`

// vmImage returns the directory with the kernel, the initrd and the disk that a virtual machine begins with.
func (l *Lab) vmImage(ctx context.Context) (string, error) {
	if err := needPackages(ctx, "qemu-system-x86", "e2fsprogs"); err != nil {
		return "", err
	}
	r := vmRecipe()
	dir, err := l.cached(ctx, "vm-"+hashOf([]any{r.keyed(), vmBoot, vmFiles("")}), func(tmp string) error {
		slog.Info("building the virtual machine's disk, once for this recipe", "dir", tmp)
		start := time.Now()
		root := filepath.Join(tmp, "root")
		if err := os.MkdirAll(tmp, 0o755); err != nil {
			return err
		}
		if err := debootstrap(ctx, r, root); err != nil {
			return err
		}
		key, err := newKey(tmp)
		if err != nil {
			return err
		}
		for path, content := range vmFiles(key) {
			if err := writeFiles(map[string]string{filepath.Join(root, path): content}); err != nil {
				return err
			}
		}
		for _, unit := range []string{"apt-daily.timer", "apt-daily-upgrade.timer", "podman-auto-update.timer", "podman-restart.service", "systemd-networkd-wait-online.service"} {
			if err := os.Symlink("/dev/null", filepath.Join(root, unitDir, unit)); err != nil && !os.IsExist(err) {
				return err
			}
		}
		wants := filepath.Join(root, unitDir, "multi-user.target.wants")
		if err := os.MkdirAll(wants, 0o755); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join(unitDir, agentName), filepath.Join(wants, agentName)); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, "sh", "-ec", vmBoot, "sh", root, tmp).CombinedOutput(); err != nil {
			return fmt.Errorf("disk of the virtual machine: %w\n%s", err, tail(out))
		}
		slog.Info("built", "dir", tmp, "took", time.Since(start).Round(time.Second))
		return os.RemoveAll(root)
	})
	if err != nil {
		return "", fmt.Errorf("virtual machine: %w", err)
	}
	return dir, nil
}

// vmFiles are the machine's own. It sees the host's files below /host, as nodes do, and its directory in the lab at /lab.
func vmFiles(key string) map[string]string {
	return map[string]string{
		"/etc/hostname":              "node1\n",
		"/etc/hosts":                 "127.0.0.1 localhost\n::1 localhost\n" + hosts(),
		"/etc/resolv.conf":           "# A node of the lab has no name server.\n",
		"/root/.ssh/authorized_keys": key,
		"/etc/fstab": "/dev/vda / ext4 defaults 0 0\n" +
			"host /host 9p trans=virtio,version=9p2000.L,msize=524288,cache=mmap,nofail 0 0\n" +
			"lab /lab 9p trans=virtio,version=9p2000.L,msize=524288,cache=mmap,nofail 0 0\n",
		"/host/.keep": "", "/lab/.keep": "",
		filepath.Join(unitDir, agentName): `[Unit]
Description=Control socket of the lab
After=lab.mount host.mount
Wants=lab.mount host.mount

[Service]
Type=exec
ExecStartPre=-/usr/sbin/ip addr add ` + nodeAddress(1) + `/24 dev ` + nodeLink + `
ExecStartPre=/usr/sbin/ip link set ` + nodeLink + ` up
ExecStart=/lab/bin/lab agent
Delegate=yes
Restart=on-failure

[Install]
WantedBy=multi-user.target
`,
		// Without KVM, all of it takes twenty times as long.
		"/etc/systemd/system.conf.d/slow.conf": "[Manager]\nDefaultTimeoutStartSec=900s\nDefaultTimeoutStopSec=300s\nDefaultDeviceTimeoutSec=900s\n",
	}
}
