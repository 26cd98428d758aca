package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

const (
	port     = 8080
	requests = 20 // of each clone
	clones   = 2  // at once
)

const runDir = ociruntime.RunDir(ociruntime.DefaultRunDir)

// restore starts clones of what was frozen, and a cold container, and compares them.
func (n *node) restore(ctx context.Context, r row, slot int, came result) result {
	if came.Freezes != works || came.Eager != "" {
		return came // it could not be frozen, or not be restored on its own node
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 3*patience, fmt.Errorf("not done within %s", 3*patience))
	defer cancel()
	defer func() { _ = n.removeContainers(context.WithoutCancel(ctx), label+"="+r.Name) }() // close does, and reports errors
	cold, err := n.cold(ctx, r)
	if err != nil {
		came.Eager = outcomeOf(fmt.Errorf("cold boot: %w", err))
		return came
	}
	if err := n.holdDonorsAddress(ctx, r, slot); err != nil {
		came.Eager = outcomeOf(err)
		return came
	}
	lazy, err := n.clones(ctx, r, restore.MemoryLazy)
	came.Lazy = outcomeOf(err)
	eager, err := n.clones(ctx, r, restore.MemoryEager)
	came.Eager = outcomeOf(err)
	all := append(lazy, eager...)
	if len(all) == 0 {
		return came
	}
	if r.Random != "" {
		came.Unique = outcomeOf(n.unique(ctx, r, all))
	}
	came.Idle = outcomeOf(n.idle(ctx, cold, all))
	came.Restart = outcomeOf(n.restart(ctx, r, all))
	came.Stop = outcomeOf(n.stop(ctx, cold, all))
	return came
}

// cold boots a row, and waits until it answers.
func (n *node) cold(ctx context.Context, r row) (id string, err error) {
	started, err := restore.Run(ctx, n.eng, restore.Options{Spec: n.spec(r), Policy: restore.PolicyNever})
	if err != nil {
		return "", err
	}
	return started.ContainerID, r.ready().Wait(ctx, n.eng, started.ContainerID)
}

// holdDonorsAddress keeps the address of a row's donor from everybody else.
func (n *node) holdDonorsAddress(ctx context.Context, r row, slot int) error {
	spec := n.withDonorsAddress(engine.Spec{
		Config: &container.Config{Image: "pause:lab", Labels: map[string]string{label: r.Name}},
		Host:   &container.HostConfig{NetworkMode: container.NetworkMode(n.network)},
	}, slot)
	id, err := n.eng.Create(ctx, spec, "")
	if err != nil {
		return err
	}
	return n.eng.Start(ctx, id)
}

// clones starts two at once, asks each so many times, and returns their ids.
func (n *node) clones(ctx context.Context, r row, memory restore.Memory) ([]string, error) {
	ids := make([]string, clones)
	var group errgroup.Group
	for i := range ids {
		group.Go(func() error {
			started, err := restore.Run(ctx, n.eng, restore.Options{Spec: n.spec(r), Policy: restore.PolicyAlways, Store: n.store, Cache: n.cache, Memory: memory})
			if err != nil {
				return err
			}
			ids[i] = started.ContainerID
			for attempt := range requests {
				if err := n.ask(ctx, r, started.ContainerID); err != nil {
					return fmt.Errorf("request %d: %w", attempt+1, err)
				}
			}
			name, err := n.output(ctx, started.ContainerID, "cat /proc/sys/kernel/hostname")
			if err == nil && !strings.Contains(name, started.ContainerID[:12]) {
				err = fmt.Errorf("its hostname is %q", name)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return ids, nil
}

// ask makes one request, which a row that works answers at once.
func (n *node) ask(ctx context.Context, r row, id string) error {
	if r.Path == "" {
		return n.eng.Exec(ctx, id, r.Exec)
	}
	_, err := n.get(ctx, id, r.Path)
	return err
}

func (n *node) get(ctx context.Context, id, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience/3)
	defer cancel()
	c, err := n.eng.Client.ContainerInspect(ctx, id)
	if err != nil {
		return "", err
	}
	endpoint := c.NetworkSettings.Networks[n.network]
	if endpoint == nil || endpoint.IPAddress == "" {
		return "", fmt.Errorf("container %.12s has no address", id)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(endpoint.IPAddress, strconv.Itoa(port))+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

// unique reports clones that return the same random values.
func (n *node) unique(ctx context.Context, r row, ids []string) error {
	seen := map[string]bool{}
	for _, id := range ids {
		ask := n.get
		if r.Path == "" {
			ask = n.output
		}
		value, err := ask(ctx, id, r.Random)
		switch {
		case err != nil:
			return err
		case value == "":
			return errors.New("it returned nothing random")
		case seen[value]:
			return fmt.Errorf("two clones returned %.40q", value)
		}
		seen[value] = true
	}
	return nil
}

// How idle processors are compared.
const (
	idleWindow  = time.Second
	idleWindows = 10
	idleMargin  = 20 * time.Millisecond // in a window: 2 % of a processor
)

// idle reports clones that take more of a processor than a cold container, when they have nothing to do. Right after a start they
// may, so one quiet window is enough.
func (n *node) idle(ctx context.Context, cold string, ids []string) error {
	busy := map[string]error{}
	for _, id := range ids {
		busy[id] = errors.New("not measured")
	}
	for range idleWindows {
		before, err := n.cpuTimes(ctx, append([]string{cold}, ids...))
		if err != nil {
			return err
		}
		time.Sleep(idleWindow) // what is measured is what happens meanwhile
		used, err := n.cpuTimes(ctx, append([]string{cold}, ids...))
		if err != nil {
			return err
		}
		for id := range used {
			used[id] -= before[id]
		}
		for _, id := range ids {
			if used[id] <= used[cold]+idleMargin {
				delete(busy, id)
			} else if busy[id] != nil {
				busy[id] = fmt.Errorf("%s of processor time a second, a cold container %s", used[id].Round(time.Millisecond), used[cold].Round(time.Millisecond))
			}
		}
		if len(busy) == 0 {
			return nil
		}
	}
	for _, err := range busy {
		return err
	}
	return nil
}

// cpuTimes are what containers have used of processors, by their ids.
func (n *node) cpuTimes(ctx context.Context, ids []string) (map[string]time.Duration, error) {
	used := map[string]time.Duration{}
	for _, id := range ids {
		t, err := n.cpuTime(ctx, id)
		if err != nil {
			return nil, err
		}
		used[id] = t
	}
	return used, nil
}

// cpuTime is what a container has used of processors.
func (n *node) cpuTime(ctx context.Context, id string) (time.Duration, error) {
	resp, err := n.eng.Client.ContainerStatsOneShot(ctx, id)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var stats container.StatsResponse
	if err := json.NewDecoder(resp.Body).Decode(&stats); err != nil {
		return 0, err
	}
	return time.Duration(stats.CPUStats.CPUUsage.TotalUsage), nil
}

// restart has the engine start one clone of each kind again.
func (n *node) restart(ctx context.Context, r row, ids []string) error {
	for i := 0; i < len(ids); i += clones {
		if err := n.eng.Client.ContainerRestart(ctx, ids[i], container.StopOptions{}); err != nil {
			return err
		}
		report, err := runDir.ReadReport(ids[i])
		switch {
		case err != nil:
			return err
		case report.Cold != "":
			return fmt.Errorf("it booted cold: %s", report.Cold)
		}
		if err := n.ask(ctx, r, ids[i]); err != nil {
			return err
		}
	}
	return nil
}

// stop compares the exit codes.
func (n *node) stop(ctx context.Context, cold string, ids []string) error {
	all := append([]string{cold}, ids...)
	codes := make([]int, len(all))
	var group errgroup.Group
	for i, id := range all {
		group.Go(func() error {
			if err := n.eng.Client.ContainerStop(ctx, id, container.StopOptions{}); err != nil {
				return err
			}
			c, err := n.eng.Client.ContainerInspect(ctx, id)
			if err == nil {
				codes[i] = c.State.ExitCode
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, code := range codes[1:] {
		if code != codes[0] {
			return fmt.Errorf("exit code %d, a cold container's is %d", code, codes[0])
		}
	}
	return nil
}
