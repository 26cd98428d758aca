package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// patience bounds what is bound to happen, on a machine that is slow and busy too.
const patience = 3 * time.Minute

// label marks all containers of the suite.
const label = "io.criu-docker.compat"

//go:embed apps resources
var programs embed.FS

// node is where rows are frozen or restored: an engine, the store, a cache, and the programs in a directory that every user can read.
type node struct {
	eng     *engine.Engine
	store   store.Store
	cache   *cache.Cache
	dir     string
	network string
	lock    *os.File // one run at a time, since it removes what others have left
}

func newNode(ctx context.Context, storeURL string) (n *node, err error) {
	n = &node{network: fmt.Sprint("compat-", os.Getpid())}
	if n.eng, err = engine.Connect(ctx, ""); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	if n.lock, err = os.Create("/run/criu-docker-compat.lock"); err != nil {
		return n, err
	}
	if err = unix.Flock(int(n.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		n.lock = nil
		return n, fmt.Errorf("another run of the suite is under way on this node: %w", err)
	}
	if n.dir, err = os.MkdirTemp("/var/lib/criu-docker", "compat-"); err != nil { // where there is room for memory
		return n, err
	}
	if storeURL == "" {
		storeURL = n.dir + "/store"
	}
	if n.store, err = store.Open(ctx, storeURL); err != nil {
		return n, err
	}
	if n.cache, err = cache.Open(n.dir+"/cache", 0); err != nil {
		return n, err
	}
	if err = n.copyPrograms(); err != nil {
		return n, err
	}
	if err = n.sweep(ctx); err != nil {
		return n, err
	}
	return n, n.makeNetwork(ctx)
}

func (n *node) copyPrograms() error {
	if err := os.Chmod(n.dir, 0o755); err != nil {
		return err
	}
	to := filepath.Join(n.dir, "programs")
	if err := os.CopyFS(to, programs); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(programs, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = root.Chmod(name, 0o755) // some are scripts
		}
		return err
	})
	if err != nil {
		return err
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "compat"), self, 0o755)
}

// The donors' addresses are out of the range that clones get theirs from, and taken when they start.
const (
	subnet4, subnet6 = "10.213.88.", "fd00:88::"
	clones4          = subnet4 + "0/25"
	donors           = 200 // the last number of the first slot's donor
)

func (n *node) makeNetwork(ctx context.Context) error {
	both := true
	_, err := n.eng.Client.NetworkCreate(ctx, n.network, network.CreateOptions{
		Driver: "bridge", EnableIPv6: &both, Labels: map[string]string{label: ""},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet4 + "0/24", IPRange: clones4}, {Subnet: subnet6 + "/64"}}},
	})
	return err
}

// sweep removes the suite's containers and networks, those too that a run that was killed has left.
func (n *node) sweep(ctx context.Context) error {
	err := n.removeContainers(ctx, label)
	networks, lerr := n.eng.Client.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", label))})
	err = errors.Join(err, lerr)
	for _, left := range networks {
		err = errors.Join(err, n.eng.Client.NetworkRemove(ctx, left.ID))
	}
	return err
}

func (n *node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer n.eng.Close()
	if n.lock == nil {
		return nil
	}
	defer n.lock.Close()
	err := n.sweep(ctx)
	if n.store != nil {
		err = errors.Join(err, n.store.Close())
	}
	if n.dir != "" {
		err = errors.Join(err, os.RemoveAll(n.dir))
	}
	return err
}

// removeContainers removes those with a label.
func (n *node) removeContainers(ctx context.Context, label string) error {
	list, err := n.eng.Client.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	for _, c := range list {
		err = errors.Join(err, restore.Remove(ctx, n.eng, n.cache, c.ID))
	}
	return err
}

// spec is how a row is run.
func (n *node) spec(r row) engine.Spec {
	spec := engine.Spec{
		Config: &container.Config{Image: r.Image, Cmd: r.Command, Env: r.Env, User: r.User, Labels: map[string]string{label: r.Name}},
		Host: &container.HostConfig{
			Binds:       []string{n.dir + "/programs:/compat:ro"},
			NetworkMode: container.NetworkMode(n.network),
		},
	}
	if r.Host != nil {
		r.Host(spec.Host)
	}
	return spec
}

// withDonorsAddress gives a container the address of a row's donor. Rows that are tried at the same time have slots of their own.
func (n *node) withDonorsAddress(spec engine.Spec, slot int) engine.Spec {
	donor4, donor6 := fmt.Sprint(subnet4, donors+slot), fmt.Sprintf("%s%x", subnet6, donors+slot)
	spec.Network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
		n.network: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: donor4, IPv6Address: donor6}},
	}}
	return spec
}

// freeze builds a snapshot, with default options.
func (n *node) freeze(ctx context.Context, r row, slot int, _ result) result {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*patience, fmt.Errorf("not done within %s", 2*patience))
	defer cancel()
	opts := build.Options{
		Spec: n.withDonorsAddress(n.spec(r), slot), Ready: r.ready(), Checkpoint: criu.DefaultOptions(), Store: n.store, Force: true,
	}
	if r.Hook != "" {
		h, err := hook.Parse(r.Hook)
		if err != nil {
			return result{Row: r.Name, Freezes: outcomeOf(err)}
		}
		opts.Hooks.AfterRestore = []hook.Hook{h}
	}
	_, err := build.Snapshot(ctx, n.eng, opts)
	if err != nil && !errors.Is(err, build.ErrNotRestorable) {
		return result{Row: r.Name, Freezes: outcomeOf(err)}
	}
	if err != nil { // the profile's restore is the first of all
		return result{Row: r.Name, Freezes: works, Lazy: outcomeOf(err), Eager: outcomeOf(err)}
	}
	return result{Row: r.Name, Freezes: works}
}

// ready is the probe of a row's donor.
func (r row) ready() build.Probe {
	if r.Path != "" {
		return build.Probe{Type: build.ProbeHTTP, Port: port, Path: r.Path, Status: 200, Timeout: patience}
	}
	return build.Probe{Type: build.ProbeExec, Command: r.Exec, Timeout: patience}
}

// output runs a command of the shell in a container, and returns what it writes.
func (n *node) output(ctx context.Context, id, script string) (string, error) {
	created, err := n.eng.Client.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: []string{"sh", "-c", script}, AttachStdout: true})
	if err != nil {
		return "", err
	}
	attached, err := n.eng.Client.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return "", err
	}
	defer attached.Close()
	out, err := io.ReadAll(attached.Reader)
	return string(out), err
}
