// Package runtimeinstall registers criu-docker-runc with the Docker Engine of this machine, and takes it out again. The page
// server goes where the runtime does, since that looks for it beside itself.
package runtimeinstall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// DefaultBinary is where the runtime is installed unless told otherwise, or unless a package has installed it already.
const DefaultBinary = "/usr/local/bin/" + ociruntime.Name

// packageDir is where packages put the runtime and its page server. They are registered there, neither written nor removed:
// the package manager does both, and so an upgrade needs no second installation.
var packageDir = "/usr/bin"

// Sentinels that callers branch on.
var (
	// ErrConflict means that daemon.json already says something else about the runtime.
	ErrConflict = errors.New("daemon.json is at odds with the installation")
	// ErrInUse means that containers still run with the runtime.
	ErrInUse = errors.New("the runtime is in use")
)

// Options say what to install where.
type Options struct {
	Host        string // the engine's address; "" means as engine.Connect takes it
	Source      string // the runtime to install; "" means the one beside the running binary
	PagesSource string // the criu-docker binary to install as its page server; "" means the running one
	Binary      string // where to install the runtime; "" means where a package has put it with the running binary, or DefaultBinary
	DaemonJSON  string // "" means the file that the running dockerd reads, or /etc/docker/daemon.json
	// Force uninstalls although containers use the runtime; they can't be started again then.
	Force bool
}

// Result says what was done.
type Result struct {
	DaemonJSON    string `json:"daemon_json"`
	Binary        string `json:"binary"` // the runtime
	Pages         string `json:"pages"`  // its page server
	ConfigChanged bool   `json:"config_changed"`
	BinaryChanged bool   `json:"binary_changed"`
	PagesChanged  bool   `json:"pages_changed"`
	// Reloaded is true when the running dockerd has taken the change over.
	Reloaded bool `json:"reloaded"`
	// RestartNeeded is true when dockerd has to be restarted for the rest of it: experimental mode can't be switched
	// while it runs. It is also true when no dockerd could be reached.
	RestartNeeded bool `json:"restart_needed"`
}

// reloadTimeout bounds how long dockerd may take to act on a changed daemon.json; it needs milliseconds.
const reloadTimeout = 15 * time.Second

// Install copies the runtime and its page server to their place and registers the runtime in daemon.json, together with
// experimental mode, which the engine's checkpoint API needs. What else daemon.json says, and its layout, stay as they are;
// the file as it was is kept beside it until Uninstall. Doing it twice changes nothing.
func Install(ctx context.Context, opts Options) (Result, error) {
	opts, daemon, err := opts.complete(ctx)
	if err != nil {
		return Result{}, err
	}
	defer daemon.close()
	result := opts.result()
	if err := opts.checkSources(); err != nil {
		return result, err
	}
	file, err := readConfig(opts.DaemonJSON)
	if err != nil {
		return result, err
	}
	changed, err := file.register(opts.Binary, !daemon.hasFlag("experimental"))
	if err != nil {
		return result, err
	}
	if changed {
		if err := daemon.validate(ctx, file.bytes()); err != nil {
			return result, err
		}
	}
	if !opts.packaged() {
		// Each comes before what uses it: the runtime finds its page server, and dockerd the runtime.
		if result.PagesChanged, err = installBinary(opts.PagesSource, result.Pages); err != nil {
			return result, fmt.Errorf("install the page server: %w", err)
		}
		if result.BinaryChanged, err = installBinary(opts.Source, opts.Binary); err != nil {
			return result, fmt.Errorf("install the runtime: %w", err)
		}
	}
	if changed {
		if err := file.backup(); err != nil {
			return result, err
		}
		if err := file.write(); err != nil {
			return result, err
		}
	}
	result.ConfigChanged = changed
	return result, daemon.apply(ctx, &result, func(known map[string]string) bool { return known[engine.RuntimeName] == opts.Binary })
}

// Uninstall takes back what Install did, and nothing else. Doing it twice changes nothing.
func Uninstall(ctx context.Context, opts Options) (Result, error) {
	opts, daemon, err := opts.complete(ctx)
	if err != nil {
		return Result{}, err
	}
	defer daemon.close()
	result := opts.result()
	if !opts.Force {
		if err := daemon.unused(ctx); err != nil {
			return result, err
		}
	}
	file, err := readConfig(opts.DaemonJSON)
	if err != nil {
		return result, err
	}
	if result.ConfigChanged, err = file.unregister(opts.Binary); err != nil {
		return result, err
	}
	if result.ConfigChanged {
		if err := daemon.validate(ctx, file.bytes()); err != nil {
			return result, err
		}
		if err := file.write(); err != nil {
			return result, err
		}
	}
	if err := daemon.apply(ctx, &result, func(known map[string]string) bool { return known[engine.RuntimeName] == "" }); err != nil {
		return result, err
	}
	tidied, err := file.tidy()
	if err != nil {
		return result, err
	}
	if tidied {
		if err := file.write(); err != nil {
			return result, err
		}
	}
	// dockerd has forgotten the binaries, so now they may go; and only now is the file as it was of no more use.
	if !opts.packaged() {
		if result.BinaryChanged, err = removeBinary(opts.Binary); err != nil {
			return result, fmt.Errorf("remove the runtime: %w", err)
		}
		if result.PagesChanged, err = removeBinary(result.Pages); err != nil {
			return result, fmt.Errorf("remove the page server: %w", err)
		}
	}
	return result, file.removeBackup()
}

// complete fills the options' defaults in, and finds the running dockerd.
func (o Options) complete(ctx context.Context) (Options, *daemon, error) {
	self, err := os.Executable() // with symbolic links resolved
	if err != nil {
		return o, nil, fmt.Errorf("find the running binary: %w", err)
	}
	if o.Source == "" {
		o.Source = filepath.Join(filepath.Dir(self), ociruntime.Name)
	}
	if o.PagesSource == "" {
		o.PagesSource = self
	}
	if o.Binary == "" {
		o.Binary = DefaultBinary
		if filepath.Dir(self) == packageDir {
			o.Binary = o.Source
		}
	}
	d, err := findDaemon(ctx, o.Host)
	if err != nil {
		return o, nil, err
	}
	if o.DaemonJSON == "" {
		o.DaemonJSON = d.configFile()
	}
	return o, d, nil
}

// checkSources tells what is missing before anything is changed.
func (o Options) checkSources() error {
	if o.packaged() {
		for _, file := range []string{o.Binary, o.result().Pages} {
			if _, err := os.Stat(file); err != nil {
				return fmt.Errorf("%w: %s is for packages alone: install the package criu-docker, or name another place with --binary", err, packageDir)
			}
		}
		return nil
	}
	for _, source := range []string{o.Source, o.PagesSource} {
		if _, err := os.Stat(source); err != nil {
			return fmt.Errorf("%w: put %s there; make build makes it", err, filepath.Base(source))
		}
	}
	return nil
}

// packaged reports whether the runtime is a package's.
func (o Options) packaged() bool { return filepath.Dir(o.Binary) == packageDir }

func (o Options) result() Result {
	return Result{DaemonJSON: o.DaemonJSON, Binary: o.Binary, Pages: filepath.Join(filepath.Dir(o.Binary), ociruntime.PagesName)}
}

// unused reports containers of the runtime. Without a running dockerd that is not known, and none can be started either.
func (d *daemon) unused(ctx context.Context) error {
	if d.engine == nil {
		return nil
	}
	list, err := d.engine.Client.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var using []string
	for _, c := range list {
		info, err := d.engine.Client.ContainerInspect(ctx, c.ID)
		if engine.IsNotFound(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return fmt.Errorf("inspect container %.12s: %w", c.ID, err)
		}
		if info.HostConfig != nil && info.HostConfig.Runtime == engine.RuntimeName {
			using = append(using, c.ID[:12])
		}
	}
	if len(using) > 0 {
		return fmt.Errorf("%w by %d containers (%s): remove them first, or use --force", ErrInUse, len(using), using[0])
	}
	return nil
}
