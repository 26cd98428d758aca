// Package runtimeinstall registers criu-docker-runc with the Docker Engine of this machine, and takes it out again.
package runtimeinstall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// DefaultBinary is where the runtime is installed unless told otherwise.
const DefaultBinary = "/usr/local/bin/criu-docker-runc"

// Sentinels that callers branch on.
var (
	// ErrConflict means that daemon.json already says something else about the runtime.
	ErrConflict = errors.New("daemon.json is at odds with the installation")
	// ErrInUse means that containers still run with the runtime.
	ErrInUse = errors.New("the runtime is in use")
)

// Options say what to install where.
type Options struct {
	Host       string // the engine's address; "" means as engine.Connect takes it
	Source     string // the criu-docker binary to install; "" means the running one
	Binary     string // where to; "" means DefaultBinary
	DaemonJSON string // "" means the file that the running dockerd reads, or /etc/docker/daemon.json
	// Force uninstalls although containers use the runtime; they can't be started again then.
	Force bool
}

// Result says what was done.
type Result struct {
	DaemonJSON    string `json:"daemon_json"`
	Binary        string `json:"binary"`
	ConfigChanged bool   `json:"config_changed"`
	BinaryChanged bool   `json:"binary_changed"`
	// Reloaded is true when the running dockerd has taken the change over.
	Reloaded bool `json:"reloaded"`
	// RestartNeeded is true when dockerd has to be restarted for the rest of it: experimental mode can't be switched
	// while it runs. It is also true when no dockerd could be reached.
	RestartNeeded bool `json:"restart_needed"`
}

// reloadTimeout bounds how long dockerd may take to act on a changed daemon.json; it needs milliseconds.
const reloadTimeout = 15 * time.Second

// Install copies the runtime to its place and registers it in daemon.json, together with experimental mode, which the
// engine's checkpoint API needs. What else daemon.json says, and its layout, stay as they are; the file as it was is
// kept beside it until Uninstall. Doing it twice changes nothing.
func Install(ctx context.Context, opts Options) (Result, error) {
	opts, daemon, err := opts.complete(ctx)
	if err != nil {
		return Result{}, err
	}
	defer daemon.close()
	result := Result{DaemonJSON: opts.DaemonJSON, Binary: opts.Binary}
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
	// The binary comes first, so that dockerd is never told of one that is not there.
	if result.BinaryChanged, err = installBinary(opts.Source, opts.Binary); err != nil {
		return result, err
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
	result := Result{DaemonJSON: opts.DaemonJSON, Binary: opts.Binary}
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
	// dockerd has forgotten the binary, so now it may go; and only now is the file as it was of no more use.
	err = os.Remove(opts.Binary)
	result.BinaryChanged = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result, fmt.Errorf("remove the runtime: %w", err)
	}
	return result, file.removeBackup()
}

// complete fills the options' defaults in, and finds the running dockerd.
func (o Options) complete(ctx context.Context) (Options, *daemon, error) {
	if o.Source == "" {
		self, err := os.Executable()
		if err != nil {
			return o, nil, fmt.Errorf("find the running binary: %w", err)
		}
		o.Source = self
	}
	if o.Binary == "" {
		o.Binary = DefaultBinary
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

// unused reports containers of the runtime. Without a running dockerd nobody can tell, and none is started either.
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
