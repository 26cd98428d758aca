package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// startDocker starts an app on Docker, by the product's own code, and measures until it answers. c is nil for a cold
// boot.
func (b *bench) startDocker(ctx context.Context, a app, cpus int, c *cache.Cache) (_ sample, err error) {
	opts := restore.Options{Spec: a.spec(filepath.Base(b.work), cpus), Policy: restore.PolicyNever, Timeout: startTimeout}
	if c != nil {
		opts.Policy, opts.Store, opts.Cache = restore.PolicyAlways, b.store, c
	}
	begin := time.Now()
	result, err := restore.Run(ctx, b.eng, opts)
	if err != nil {
		return sample{}, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		err = errors.Join(err, restore.Remove(ctx, b.eng, c, result.ContainerID))
	}()
	url, err := b.url(ctx, a, result.ContainerID)
	if err != nil {
		return sample{}, err
	}
	if err := firstAnswer(ctx, url); err != nil {
		return sample{}, err
	}
	s := sample{total: time.Since(begin)}

	if err := checkPinned(ctx, b.eng.Client, result.ContainerID, cpus); err != nil {
		return sample{}, err
	}
	for _, step := range result.Steps {
		if step.Step == "fetch" {
			s.fetch = step.Elapsed
		}
	}
	s.rss, err = b.rss(ctx, result.ContainerID)
	return s, err
}

// startEmpty is startDocker with a cache that holds nothing.
func (b *bench) startEmpty(ctx context.Context, a app, cpus int) (_ sample, err error) {
	dir, err := os.MkdirTemp(b.work, "cache-")
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c, err := cache.Open(dir, 0)
	if err != nil {
		return sample{}, err
	}
	return b.startDocker(ctx, a, cpus, c)
}

// url is where the app in a container is reached directly; through the published port the proxy would be measured too.
func (b *bench) url(ctx context.Context, a app, id string) (string, error) {
	c, err := b.eng.Client.ContainerInspect(ctx, id)
	if err != nil {
		return "", err
	}
	n, ok := c.NetworkSettings.Networks["bridge"]
	if !ok || n.IPAddress == "" {
		return "", fmt.Errorf("container %.12s of %s has no address: has it ended? (%s)", id, a.name, c.State.Status)
	}
	return "http://" + net.JoinHostPort(n.IPAddress, strconv.Itoa(a.port)) + a.path, nil
}

// rss is what a container's processes have in memory, in bytes.
func (b *bench) rss(ctx context.Context, id string) (int64, error) {
	top, err := b.eng.Client.ContainerTop(ctx, id, []string{"-o", "pid,rss"})
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, row := range top.Processes {
		kib, err := strconv.ParseInt(row[len(row)-1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("memory of container %.12s: %w", id, err)
		}
		sum += kib << 10
	}
	return sum, nil
}
