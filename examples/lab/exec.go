package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func execCommand(lab *Lab) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "exec [--node NAME] -- COMMAND [ARGUMENT…]",
		Short: "Run a command inside a node, as root, in the same directory (seen as /host/…)",
		Long: `Run a command inside a node. Standard streams, signals, environment and exit code pass through; the host's files are
below /host, and a command that is named by its path on the host is found there. Made for go test -exec 'lab exec --'.
When this command is killed, everything it started in the node is killed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return lab.node(node).exec(cmd.Context(), args)
		},
	}
	cmd.Flags().StringVar(&node, "node", envOr("LAB_NODE", "node1"), "node to run in (LAB_NODE)")
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func envOr(key, fallback string) string {
	if v := os.Getenv(key); v != "" {
		return v
	}
	return fallback
}

// exec runs a command in the node with this process's streams and signals, and returns its exit code as an exitCode.
func (n *Node) exec(ctx context.Context, argv []string) error {
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	if n.isVM() {
		ctx, cancel := interruptible(ctx)
		defer cancel()
		return n.execVM(ctx, argv, execEnv(os.Environ(), n.Name), dir, os.Stdin, os.Stdout, os.Stderr)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	conn, err := n.call(ctx, request{Op: "exec", Argv: argv, Env: execEnv(os.Environ(), n.Name), Dir: dir},
		os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		encoder := json.NewEncoder(conn)
		for s := range signals {
			_ = encoder.Encode(signalMessage{Signal: int(s.(syscall.Signal))}) // a broken connection ends the read below
		}
	}()
	var rep reply
	if err := json.NewDecoder(conn).Decode(&rep); err != nil {
		return fmt.Errorf("node %s went away while the command ran: %w", n.Name, err)
	}
	if rep.Error != "" {
		return errors.New(rep.Error)
	}
	if rep.Exit != 0 {
		return exitCode(rep.Exit)
	}
	return nil
}

// execPath is PATH for commands: the node's, and where the host has Terraform and Go if that is somewhere else.
func execPath() string {
	path := nodePath
	for _, tool := range []string{"terraform", "go"} {
		found, err := exec.LookPath(tool)
		if err != nil {
			continue
		}
		// Without links, as an absolute one leads to another place in the node.
		if found, err = filepath.EvalSymlinks(found); err != nil {
			continue
		}
		if dir := hostRoot + filepath.Dir(found); !slices.Contains(filepath.SplitList(path), dir) {
			path += ":" + dir
		}
	}
	return path
}

// execEnv is the environment of a command in a node: the caller's, but for what means something else there.
func execEnv(environ []string, node string) []string {
	replace := map[string]string{
		"PATH":                  execPath(),
		"HOME":                  "/root",
		"TMPDIR":                "/tmp",
		"CRIU_DOCKER_LAB":       node,
		"STORAGE_EMULATOR_HOST": "http://" + gcsAddress,
		"NOMAD_ADDR":            "http://" + nomadAddress,
	}
	drop := map[string]bool{"DOCKER_HOST": true, "DOCKER_CONTEXT": true, "DOCKER_CONFIG": true, "CONTAINER_HOST": true, "XDG_RUNTIME_DIR": true}
	// Go's caches are the host's, or every go command in the node would start from nothing.
	home := envOr("HOME", "/root")
	caches := map[string]string{
		"GOPATH":     filepath.Join("/host", envOr("GOPATH", filepath.Join(home, "go"))),
		"GOCACHE":    filepath.Join("/host", envOr("GOCACHE", filepath.Join(home, ".cache/go-build"))),
		"GOMODCACHE": filepath.Join("/host", envOr("GOMODCACHE", filepath.Join(home, "go/pkg/mod"))),
	}
	for k, v := range caches {
		replace[k] = v
	}
	var env []string
	for _, kv := range environ {
		k, _, _ := strings.Cut(kv, "=")
		if _, ok := replace[k]; !ok && !drop[k] {
			env = append(env, kv)
		}
	}
	for k, v := range replace {
		env = append(env, k+"="+v)
	}
	return env
}
