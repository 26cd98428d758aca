package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// way says how a container is started on Docker. Without a cache it is booted cold.
type way struct {
	cache  *cache.Cache
	memory restore.Memory
}

// started is a container that has answered.
type started struct {
	id    string
	fetch time.Duration
}

// startDocker starts an app on Docker, by the product's own code, and measures until it answers.
func (b *bench) startDocker(ctx context.Context, a app, cpus int, w way) (s sample, err error) {
	begin := time.Now()
	c, err := b.launch(ctx, a, cpus, w)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, b.remove(ctx, w, c.id)) }()
	s = sample{total: time.Since(begin), fetch: c.fetch}

	if err := checkPinned(ctx, b.eng.Client, c.id, cpus); err != nil {
		return sample{}, err
	}
	if s.rss, err = b.rss(ctx, c.id); err != nil || a.whole == "" {
		return s, err
	}
	a.path = a.whole
	url, err := b.url(ctx, a, c.id)
	if err != nil {
		return sample{}, err
	}
	return s, oneAnswer(ctx, url)
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
	return b.startDocker(ctx, a, cpus, way{c, restore.MemoryAuto})
}

// startCrowd starts apps at the same time and measures until the last of them has answered.
func (b *bench) startCrowd(ctx context.Context, list []app, cpus int, w way) (s sample, err error) {
	var mu sync.Mutex
	var ids []string
	defer func() { err = errors.Join(err, b.remove(ctx, w, ids...)) }()
	launches, lctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for _, a := range list {
		launches.Go(func() error {
			c, err := b.launch(lctx, a, cpus, w)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, c.id)
			return nil
		})
	}
	if err := launches.Wait(); err != nil {
		return sample{}, err
	}
	s.total = time.Since(begin)

	answered, err := proportional(ids)
	if err != nil {
		return sample{}, err
	}
	if err := awaitFilled(ctx, ids); err != nil {
		return sample{}, err
	}
	filled, err := proportional(ids)
	if err != nil {
		return sample{}, err
	}
	s.answered, s.filled = answered/int64(len(ids)), filled/int64(len(ids))
	for _, id := range ids {
		if err := checkPinned(ctx, b.eng.Client, id, cpus); err != nil {
			return sample{}, err
		}
	}
	return s, nil
}

// launch starts an app and returns when it has answered. When it fails nothing is left behind.
func (b *bench) launch(ctx context.Context, a app, cpus int, w way) (_ started, err error) {
	opts := restore.Options{Spec: a.spec(filepath.Base(b.work), cpus), Policy: restore.PolicyNever, Timeout: startTimeout}
	if w.cache == nil {
		opts.Spec.Host.Runtime = "runc" // as with docker run: under ours, a cold boot gets an identity, which takes time
	} else {
		opts.Policy, opts.Store, opts.Cache, opts.Memory = restore.PolicyAlways, b.store, w.cache, w.memory
	}
	result, err := restore.Run(ctx, b.eng, opts)
	if err != nil {
		return started{}, err
	}
	c := started{id: result.ContainerID}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.remove(ctx, w, c.id))
		}
	}()
	for _, step := range result.Steps {
		if step.Step == "fetch" {
			c.fetch = step.Elapsed
		}
	}
	url, err := b.url(ctx, a, c.id)
	if err != nil {
		return started{}, err
	}
	return c, firstAnswer(ctx, url)
}

// remove removes containers, also after ctrl-C, and returns when nothing works for them any more: not on the next
// measurement's time, and not in a cache that is about to be deleted.
func (b *bench) remove(ctx context.Context, w way, ids ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	var removals errgroup.Group
	for _, id := range ids {
		removals.Go(func() error { return restore.Remove(ctx, b.eng, w.cache, id) })
	}
	if err := removals.Wait(); err != nil {
		return err
	}
	return awaitFilled(ctx, ids)
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
