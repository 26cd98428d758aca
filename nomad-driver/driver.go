package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/client/lib/cpustats"
	"github.com/hashicorp/nomad/drivers/shared/eventer"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/fsisolation"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"golang.org/x/sync/singleflight"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/store"
	"github.com/criu-docker/criu-docker/shared/version"
)

// pluginName is what jobs write as driver = "…".
const pluginName = "criu-docker"

// pluginBlock is the label of the plugin's block in the agent's configuration: its file's name.
const pluginBlock = "nomad-driver-criu-docker"

// Driver implements drivers.DriverPlugin and the optional interfaces for streaming exec and group networks.
type Driver struct {
	ctx     context.Context // ends with the plugin process
	logger  hclog.Logger
	eventer *eventer.Eventer
	events  chan *drivers.TaskEvent // in order, on their way to eventer
	tasks   *taskStore
	pulls   singleflight.Group // by image reference
	opening singleflight.Group // engine and stores, see open
	naming  sync.Mutex         // held while the files of a group's network are written

	maintain sync.Once // starts the periodic clean-up

	mu       sync.Mutex // guards what follows
	settings settings
	compute  cpustats.Compute
	engine   *engine.Engine // connected at first use
	cache    *cache.Cache
	stores   map[string]store.Store // by address; open until the plugin ends
	nodes    map[string]bool        // ids of the Nomad nodes whose tasks this driver has run
}

// NewDriver returns a driver that works until ctx ends.
func NewDriver(ctx context.Context, logger hclog.Logger) *Driver {
	logger = logger.Named(pluginName)
	d := &Driver{
		ctx:     ctx,
		logger:  logger,
		eventer: eventer.NewEventer(ctx, logger),
		events:  make(chan *drivers.TaskEvent, 256),
		tasks:   newTaskStore(),
		stores:  map[string]store.Store{},
		nodes:   map[string]bool{},
	}
	go d.deliverEvents()
	return d
}

// PluginInfo is part of base.BasePlugin.
func (d *Driver) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDriver,
		PluginApiVersions: []string{drivers.ApiVersion010},
		PluginVersion:     version.Get().Semantic(),
		Name:              pluginName,
	}, nil
}

// ConfigSchema is part of base.BasePlugin.
func (d *Driver) ConfigSchema() (*hclspec.Spec, error) { return configSpec, nil }

// SetConfig is part of base.BasePlugin. Nomad calls it before anything that needs the configuration.
func (d *Driver) SetConfig(cfg *base.Config) error {
	s, err := parseConfig(cfg.PluginConfig)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.settings = s
	d.compute = cfg.AgentConfig.Compute()
	d.mu.Unlock()
	d.maintain.Do(func() { go d.cleanUpPeriodically() })
	return nil
}

// TaskConfigSchema is part of drivers.DriverPlugin.
func (d *Driver) TaskConfigSchema() (*hclspec.Spec, error) { return taskConfigSpec, nil }

// Capabilities is part of drivers.DriverPlugin.
func (d *Driver) Capabilities() (*drivers.Capabilities, error) {
	return &drivers.Capabilities{
		SendSignals: true,
		Exec:        true,
		FSIsolation: fsisolation.Image,
		NetIsolationModes: []drivers.NetIsolationMode{
			drivers.NetIsolationModeHost,
			drivers.NetIsolationModeGroup,
			drivers.NetIsolationModeTask,
			drivers.NetIsolationModeNone,
		},
		MustInitiateNetwork:  true,
		MountConfigs:         drivers.MountConfigSupportAll,
		DisableLogCollection: d.config().DisableLogCollection,
	}, nil
}

// TaskEvents is part of drivers.DriverPlugin.
func (d *Driver) TaskEvents(ctx context.Context) (<-chan *drivers.TaskEvent, error) {
	return d.eventer.TaskEvents(ctx)
}

func (d *Driver) config() settings {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settings
}

// docker returns the connection to the engine, which it opens at first use: dockerd may start later than Nomad.
func (d *Driver) docker(ctx context.Context) (*engine.Engine, error) {
	d.mu.Lock()
	eng := d.engine
	d.mu.Unlock()
	if eng != nil {
		return eng, nil
	}
	v, err := d.open(ctx, "docker", func() (any, error) {
		eng, err := engine.Connect(d.ctx, d.config().Endpoint)
		if err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.engine = eng
		}
		return eng, err
	})
	if err != nil {
		return nil, err
	}
	return v.(*engine.Engine), nil
}

// snapshotCache returns the node's cache of unpacked snapshots.
func (d *Driver) snapshotCache() (*cache.Cache, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cache == nil {
		c, err := cache.Open(d.settings.Cache.Dir, d.settings.cacheMaxBytes)
		if err != nil {
			return nil, fmt.Errorf("snapshot cache %s: %w", d.settings.Cache.Dir, err)
		}
		d.cache = c
	}
	return d.cache, nil
}

// store returns the store at an address. It stays open, for all tasks, until the plugin ends.
func (d *Driver) store(ctx context.Context, address string) (store.Store, error) {
	d.mu.Lock()
	s, ok := d.stores[address]
	d.mu.Unlock()
	if ok {
		return s, nil
	}
	v, err := d.open(ctx, "store "+address, func() (any, error) {
		s, err := d.openStore(address)
		if err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.stores[address] = s
		}
		return s, err
	})
	if err != nil {
		return nil, err
	}
	return v.(store.Store), nil
}

// openStore opens a store for the plugin's life.
func (d *Driver) openStore(address string) (store.Store, error) {
	if !d.settings.Snapshot.Untrusted {
		s, err := store.Open(d.ctx, address)
		if errors.Is(err, store.ErrUntrusted) {
			err = fmt.Errorf("%w; snapshot.allow_untrusted_stores in the configuration of plugin %q overrules this", err, pluginBlock)
		}
		return s, err
	}
	return store.OpenUntrusted(d.ctx, address, func(err error) {
		d.logger.Warn("store is used although others may write to it, since snapshot.allow_untrusted_stores is set", "store", address, "error", err)
	})
}

// open has something opened once for all who ask for it at the same time. It is opened for the plugin's life; ctx only
// bounds how long this caller waits. No lock is held: the answer may come from another machine, or never.
func (d *Driver) open(ctx context.Context, what string, open func() (any, error)) (any, error) {
	select {
	case r := <-d.opening.DoChan(what, open):
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("opening %s: %w", what, context.Cause(ctx))
	}
}
