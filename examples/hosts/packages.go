package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// readme does what the README says, word for word.
func (h *host) readme(ctx context.Context) (string, error) {
	b, err := os.ReadFile(h.readmeFile)
	if err != nil {
		return "", err
	}
	script, err := readmeScript(string(b))
	if err != nil {
		return "", err
	}
	if err := quiet(ctx, "docker", "tag", image, "my-app:1.2"); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir = h.packages
	out, err := cmd.CombinedOutput()
	if err == nil && !strings.Contains(string(out), "It works") {
		err = errors.New("no answer")
	}
	if err != nil {
		return "", fmt.Errorf("the README's commands: %w: %s", err, out)
	}
	return "", errors.Join(quiet(ctx, "docker", "rm", "-f", "web"), h.forget(ctx, "/var/lib/criu-docker/store"), quiet(ctx, "docker", "rmi", "my-app:1.2"))
}

// readmeScript is the first block of commands below the heading for machines that have Docker.
func readmeScript(text string) (string, error) {
	_, section, ok := strings.Cut(text, "\n## On a machine that has Docker\n")
	_, rest, block := strings.Cut(section, "\n```sh\n")
	script, _, end := strings.Cut(rest, "\n```\n")
	if !ok || !block || !end {
		return "", errors.New("README.md has no block of commands (```sh) below “On a machine that has Docker”")
	}
	return script, nil
}

// upgrade goes back to older packages and forth again. What runs keeps running, and what one version has begun, the other goes on with.
func (h *host) upgrade(ctx context.Context) (string, error) {
	for _, dir := range []string{h.older, h.packages} {
		if err := quiet(ctx, "sh", "-ec", "apt-get install -qy --allow-downgrades "+dir+"/*_amd64.deb"); err != nil {
			return "", err
		}
		if err := get(ctx, ports[kept]); err != nil {
			return "", fmt.Errorf("a clone that runs, after the packages of %s were installed: %w", dir, err)
		}
		const name = "hosts-upgraded"
		if err := errors.Join(start(ctx, h.store(), name), h.isAlive(ctx, name), quiet(ctx, "docker", "rm", "-f", name)); err != nil {
			return "", fmt.Errorf("a new clone: %w", err)
		}
		if err := errors.Join(quiet(ctx, "docker", "restart", "-t", "1", kept), answers(ctx, ports[kept])); err != nil {
			return "", fmt.Errorf("a clone that is restarted: %w", err)
		}
	}
	at, err := started(ctx)
	if err != nil {
		return "", err
	}
	return "", os.WriteFile(startedFile, []byte(at), 0o644)
}

// purge removes the packages as their users are to.
func (h *host) purge(ctx context.Context) (string, error) {
	if err := quiet(ctx, "apt-get", "purge", "-qy", "criu-docker"); err == nil {
		return "", errors.New("the package goes while dockerd's configuration names its runtime")
	}
	script := "criu-docker runtime uninstall; apt-get purge -qy nomad-driver-criu-docker criu-docker; systemctl restart docker; docker run --rm " + image + " true"
	if err := quiet(ctx, "sh", "-ec", script); err != nil {
		return "", err
	}
	var left []error
	for _, path := range []string{"/usr/bin/criu-docker", "/usr/bin/criu-docker-runc", "/usr/lib/nomad/plugins/nomad-driver-criu-docker", "/var/lib/criu-docker/cache"} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			left = append(left, fmt.Errorf("%s is left", path))
		}
	}
	return "", errors.Join(left...)
}
