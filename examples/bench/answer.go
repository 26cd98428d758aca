package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// pollInterval is the resolution of the measurement. A refused connection costs well under 1 % of it.
	pollInterval = 5 * time.Millisecond
	// dialTimeout makes up for packets that are lost while a network is set up; the kernel would try again after 1 s.
	dialTimeout = 50 * time.Millisecond
	// answerTimeout bounds one request: an app may listen long before it can answer.
	answerTimeout = 30 * time.Second
	// startTimeout bounds one start.
	startTimeout = 5 * time.Minute
)

// firstAnswer returns when url is answered with 200.
func firstAnswer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := newClient(answerTimeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := get(ctx, c, url)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no answer with 200: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// oneAnswer asks once, of an app that answers already.
func oneAnswer(ctx context.Context, url string) error { return get(ctx, newClient(startTimeout), url) }

func newClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       (&net.Dialer{Timeout: dialTimeout}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func get(ctx context.Context, c *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}
