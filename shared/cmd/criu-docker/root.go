package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/store"
)

const (
	defaultCacheSize = "20GiB"

	envStore     = "CRIU_DOCKER_STORE"
	envCache     = "CRIU_DOCKER_CACHE"
	envCacheSize = "CRIU_DOCKER_CACHE_SIZE"
)

// app is what all commands share: the global flags, and where to print.
type app struct {
	stdout, stderr io.Writer

	store     string
	untrusted bool
	cache     string
	cacheSize string
	host      string
	json      bool
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	a := &app{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "criu-docker",
		Short: "Boot a container once, start it from a snapshot ever after",
		Long: `criu-docker boots a service once, when its release is built, freezes the booted process with CRIU, and starts
every container in production from that frozen state.

Exit codes: 0 success; 1 failure; 2 wrong usage; 3 no such snapshot; 125 the Docker Engine can't be reached;
128+N ended by signal N.`,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true

	f := root.PersistentFlags()
	f.StringVar(&a.store, "store", env(envStore, store.DefaultDir), "where snapshots live: a directory or gs://bucket/prefix ($"+envStore+")")
	f.BoolVar(&a.untrusted, "allow-untrusted-store", false, "use a store's directory even if others may write to it: they choose what runs")
	f.StringVar(&a.cache, "cache", env(envCache, cache.DefaultDir), "directory of unpacked snapshots on this machine, empty or new at first ($"+envCache+")")
	f.StringVar(&a.cacheSize, "cache-size", env(envCacheSize, defaultCacheSize), "bound of that directory, least recently used snapshots go first; 0 for none ($"+envCacheSize+")")
	f.StringVarP(&a.host, "host", "H", "", "address of the Docker Engine ($DOCKER_HOST)")
	f.BoolVar(&a.json, "json", false, "print JSON, one document a line, for programs")

	root.AddCommand(
		buildCommand(a), runCommand(a),
		listCommand(a), inspectCommand(a), diffCommand(a), verifyCommand(a), removeCommand(a),
		storeCommand(a), cacheCommand(a), doctorCommand(a), runtimeCommand(a), versionCommand(a),
	)
	return root
}

// usage makes what is wrong with a command's operands a usageError.
func usage(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
		}
		return nil
	}
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func (a *app) openStore(ctx context.Context) (store.Store, error) {
	if err := store.Validate(a.store); err != nil {
		return nil, usageError{fmt.Errorf("--store: %w", err)}
	}
	if a.untrusted {
		return store.OpenUntrusted(ctx, a.store, func(err error) { fmt.Fprintln(a.stderr, "warning:", err) })
	}
	s, err := store.Open(ctx, a.store)
	if errors.Is(err, store.ErrUntrusted) {
		err = fmt.Errorf("--store: %w; --allow-untrusted-store overrules this", err)
	}
	return s, err
}

// cacheBytes is the bound of the cache.
func (a *app) cacheBytes() (int64, error) {
	size, err := units.RAMInBytes(a.cacheSize)
	if err != nil {
		return 0, usageError{fmt.Errorf("--cache-size %q: %w: want a size such as 20GiB, or 0", a.cacheSize, err)}
	}
	return size, nil
}

func (a *app) openCache() (*cache.Cache, error) {
	size, err := a.cacheBytes()
	if err != nil {
		return nil, err
	}
	c, err := cache.Open(a.cache, size)
	if err != nil {
		return nil, cacheError(err)
	}
	return c, nil
}

// cacheError names the flag, and the remedy where the error has none.
func cacheError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: name a directory that this user can write to", err)
	}
	return fmt.Errorf("--cache: %w", err)
}

func (a *app) connect(ctx context.Context) (*engine.Engine, error) {
	if a.host != "" {
		if _, err := client.ParseHostURL(a.host); err != nil {
			return nil, usageError{fmt.Errorf("--host %q: %w: want unix:///PATH or tcp://HOST:PORT", a.host, err)}
		}
	}
	return engine.Connect(ctx, a.host)
}

// printJSON prints one document on a line of its own.
func (a *app) printJSON(v any) error { return json.NewEncoder(a.stdout).Encode(v) }
