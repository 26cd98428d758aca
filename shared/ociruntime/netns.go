package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// givePath makes sure that the container gets its network namespace by path, for only then will CRIU leave the namespace
// to others: an image frozen so restores into any namespace that is given by path, and into no other. Where the engine
// asks for a new namespace we make it; for host networking the path leads to our own, which is the engine's.
func (c container) givePath(b *bundle) error {
	path, own := b.network()
	if path != "" {
		return nil
	}
	target := c.netnsFile()
	if err := c.run.makeSub(netnsDir); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	if err := c.removeNetns(); err != nil { // of an earlier start that was not cleaned up
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	f.Close()
	if own {
		err = newNetns(target, b.spec.Linux.Sysctl)
	} else {
		err = unix.Mount("/proc/self/ns/net", target, "", unix.MS_BIND, "")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("network namespace %s: %w", target, err), c.removeNetns())
	}
	b.setNetwork(target)
	return nil
}

// removeNetns undoes givePath; the namespace itself lives on while a process is in it.
func (c container) removeNetns() error {
	file := c.netnsFile()
	if err := unix.Unmount(file, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", file, err)
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (c container) netnsFile() string { return filepath.Join(string(c.run), netnsDir, c.id) }

// newNetns makes a network namespace and binds it to file. What runc would do inside it for a container that it
// creates, and CRIU for a namespace that it restores, is done here: lo is up and net.* sysctls are set.
func newNetns(file string, sysctl map[string]string) error {
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and nothing else ever runs in this namespace.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			lo, err := netlink.LinkByName("lo")
			if err != nil {
				return fmt.Errorf("find lo: %w", err)
			}
			if err := netlink.LinkSetUp(lo); err != nil {
				return fmt.Errorf("set lo up: %w", err)
			}
			for key, value := range sysctl {
				if !strings.HasPrefix(key, "net.") {
					continue
				}
				// /proc/thread-self, since /proc/sys/net shows the namespace of the task that opens it.
				if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), []byte(value), 0o644); err != nil {
					return fmt.Errorf("sysctl %s = %q: %w", key, value, err)
				}
			}
			return unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "")
		}()
	}()
	return <-done
}
