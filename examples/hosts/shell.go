package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

// output runs a program and returns what it prints; the error has what it complains of.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()+"\n"+string(out)))
	}
	return strings.TrimSpace(string(out)), err
}

func quiet(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

// exitCode is that of a program that has ended, or -1.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// get asks for the page on a port of this host.
func get(ctx context.Context, port string) error {
	return getFrom(ctx, "127.0.0.1:"+port)
}

func getFrom(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(page), "It works") {
		return fmt.Errorf("%s: %s: %q", address, resp.Status, page)
	}
	return nil
}

// answers waits until the page is there: who has been started by an engine is not up when that is.
func answers(ctx context.Context, port string) error {
	return eventually(ctx, func() error {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return get(short, port)
	})
}

// logs waits until a container has written something that has text in it.
func logs(ctx context.Context, name, text string) error {
	return eventually(ctx, func() error {
		cmd := exec.CommandContext(ctx, "docker", "logs", name)
		out, err := cmd.CombinedOutput()
		if err == nil && !bytes.Contains(out, []byte(text)) {
			err = fmt.Errorf("the log of %s lacks %q: %s", name, text, out)
		}
		return err
	})
}

// eventually repeats what fails until it doesn't, or until there is no time left.
func eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
