package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/nomad/api"
	"golang.org/x/sync/errgroup"
)

const (
	// pollInterval is the time between two attempts; starts take seconds.
	pollInterval = 50 * time.Millisecond
	// answerTimeout bounds one request: an app may listen long before it can answer.
	answerTimeout = 30 * time.Second
)

// firstAnswers asks the allocations of a job, from when they are placed on, until each has answered, and tells when.
func firstAnswers(ctx context.Context, nomad *api.Client, a app) (map[string]time.Time, error) {
	answered := make([]struct {
		id string
		at time.Time
	}, hotAllocs+coldAllocs)
	asking := map[string]bool{}
	asked, ctx := errgroup.WithContext(ctx)
	err := every(ctx, pollInterval, func() (bool, error) {
		list, _, err := nomad.Jobs().Allocations(a.job, false, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return false, err
		}
		for _, stub := range list {
			if asking[stub.ID] || !alive(stub) || len(asking) == len(answered) {
				continue
			}
			alloc, _, err := nomad.Allocations().Info(stub.ID, (&api.QueryOptions{}).WithContext(ctx))
			if err != nil {
				return false, err
			}
			place := &answered[len(asking)]
			asking[stub.ID] = true
			asked.Go(func() error {
				place.id = alloc.ID
				return every(ctx, pollInterval, func() (bool, error) {
					_, err := get(ctx, alloc, a.path)
					place.at = time.Now()
					return err == nil, nil
				})
			})
		}
		return len(asking) == len(answered), nil
	})
	if err := errors.Join(err, asked.Wait()); err != nil {
		return nil, fmt.Errorf("ask the allocations: %w", err)
	}
	times := map[string]time.Time{}
	for _, answer := range answered {
		times[answer.id] = answer.at
	}
	return times, nil
}

// every calls do until it is done, fails, or ctx ends.
func every(ctx context.Context, interval time.Duration, do func() (done bool, err error)) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if done, err := do(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// get asks the allocation for a page and wants 200.
func get(ctx context.Context, alloc *api.Allocation, path string) (status string, err error) {
	for _, p := range alloc.AllocatedResources.Shared.Ports {
		if p.Label != portLabel {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		url := "http://" + net.JoinHostPort(p.HostIP, strconv.Itoa(p.Value)) + path
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return resp.Status, nil
	}
	return "", errors.New("it has no port " + portLabel)
}
