package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// nodePath is PATH inside a node; the host's own tools come last, for Go, Terraform and test binaries.
const nodePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/host/usr/local/go/bin:/host/usr/local/bin"

func initCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "init NODE-DIR",
		Short:  "Process 1 of a node (started by up)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if os.Getpid() != 1 {
				return fmt.Errorf("init runs as process 1 of a node only: use lab up")
			}
			return runInit(args[0])
		},
	}
}

// runInit turns new namespaces into a node, and then reaps processes, keeps services running and answers the control
// socket until it is told to stop. When it ends, the kernel ends everything else in the node.
func runInit(dir string) error {
	spec, err := readSpec(dir)
	if err != nil {
		return err
	}
	if spec.CgroupV2 {
		if err := enterCgroup(spec); err != nil {
			return err
		}
	}
	if spec.Systemd {
		return becomeSystemd(dir, spec)
	}
	// The socket is bound before the root changes, and stays reachable from both sides through the node's directory.
	listener, err := listen(filepath.Join(dir, "init.sock"))
	if err != nil {
		return err
	}
	if err := enterRoot(dir, spec); err != nil {
		return err
	}
	if err := configureNode(spec); err != nil {
		return err
	}
	slog.Info("node is set up", "name", spec.Name)
	s := newSupervisor("/lab/log", spec.Cgroup)
	go s.reap()
	c := &controller{spec: spec, supervisor: s, services: s}
	go c.serve(listener)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	slog.Info("stopping")
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	s.stopAll(ctx)
	return nil
}

func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// configureNode does what a small machine does at boot: name, loopback, a few files.
func configureNode(spec nodeSpec) error {
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	os.Clearenv()
	for k, v := range map[string]string{"PATH": nodePath, "HOME": "/root", "LANG": "C.UTF-8"} {
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("environment: %w", err)
		}
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring up lo: %w: %s", err, out)
	}
	files := map[string]string{
		"/etc/hostname":    spec.Name + "\n",
		"/etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n" + hosts(),
		"/etc/resolv.conf": "# A node of the lab has no name server.\n",
	}
	if err := writeFiles(files); err != nil {
		return err
	}
	return os.MkdirAll("/lab/log", 0o755)
}

func writeFiles(files map[string]string) error {
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}
