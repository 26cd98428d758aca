package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// binaryLinks are the other names that a binary is called by.
var binaryLinks = map[string][]string{"criu-docker": {"criu-docker-pages"}}

// pluginDir is where the Nomad agent of a node looks for drivers.
const pluginDir = "/opt/nomad/plugins"

func installCommand(lab *Lab) *cobra.Command {
	return &cobra.Command{
		Use:   "install-binary FILE…",
		Short: "Put binaries of this repository into every running node, in one step each",
		Long: `Copy binaries into /usr/local/bin of every running node, or, if they are called nomad-driver-…, into the plugin
directory of its Nomad agent (then: lab restart nomad). criu-docker becomes criu-docker-pages as well.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			unlock, err := lab.lock(cmd.Context())
			if err != nil {
				return err
			}
			defer unlock()
			nodes, err := lab.nodes()
			if err != nil {
				return err
			}
			installed := 0
			for _, n := range nodes {
				if n.initPID() == 0 {
					continue
				}
				if err := n.install(cmd.Context(), args); err != nil {
					return err
				}
				installed++
			}
			if installed == 0 {
				return fmt.Errorf("no node runs: bring the lab up with lab up")
			}
			return nil
		},
	}
}

// install copies binaries into the running node, through its init's view of the file system.
func (n *Node) install(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return nil
	}
	if n.isVM() {
		return n.installInVM(ctx, files)
	}
	root := n.root()
	for _, f := range files {
		name, dir := filepath.Base(f), "/usr/local/bin"
		if strings.HasPrefix(name, "nomad-driver-") {
			dir = pluginDir
		}
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("install %s in node %s: %w", f, n.Name, err)
		}
		if err := copyProgram(f, filepath.Join(root, dir, name)); err != nil {
			return fmt.Errorf("install in node %s: %w", n.Name, err)
		}
		for _, link := range binaryLinks[name] {
			if err := n.link(name, filepath.Join(dir, link)); err != nil {
				return err
			}
		}
	}
	return nil
}

// root is the running node's root directory, as the host sees it.
func (n *Node) root() string { return filepath.Join("/proc", strconv.Itoa(n.initPID()), "root") }

// installInVM does the same, through the host's files as the machine sees them.
func (n *Node) installInVM(ctx context.Context, files []string) error {
	for _, f := range files {
		path, err := filepath.Abs(f)
		if err != nil {
			return err
		}
		name := filepath.Base(f)
		target := filepath.Join("/usr/local/bin", name)
		if strings.HasPrefix(name, "nomad-driver-") {
			target = filepath.Join(pluginDir, name)
		}
		if err := n.inVM(ctx, "install", "-D", "-m", "755", hostRoot+path, target); err != nil {
			return err
		}
		for _, link := range binaryLinks[name] {
			if err := n.inVM(ctx, "ln", "-sf", name, filepath.Join(filepath.Dir(target), link)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unlink removes a file from the node, if it is there.
func (n *Node) unlink(path string) error {
	if err := os.Remove(filepath.Join(n.root(), path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s from node %s: %w", path, n.Name, err)
	}
	return nil
}

// link makes a symbolic link in the node, replacing what has its name in one step.
func (n *Node) link(target, path string) error {
	final := filepath.Join(n.root(), path)
	tmp := final + ".tmp" + strconv.Itoa(os.Getpid())
	_ = os.Remove(tmp)
	if err := os.Symlink(target, tmp); err != nil {
		return fmt.Errorf("link %s in node %s: %w", path, n.Name, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return fmt.Errorf("link %s in node %s: %w", path, n.Name, err)
	}
	return nil
}
