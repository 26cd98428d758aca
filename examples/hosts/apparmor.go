package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// apparmor looks at the profile of clones: Docker's own, and none where that was asked for.
func (h *host) apparmor(ctx context.Context) (string, error) {
	if _, err := os.Stat("/sys/kernel/security/apparmor"); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: this kernel has no AppArmor", errSkipped)
	}
	if err := confined(ctx, web1, "docker-default (enforce)"); err != nil {
		return "", err
	}
	const name, option = "hosts-unconfined", "--security-opt=apparmor=unconfined"
	if err := quiet(ctx, "criu-docker", append([]string{"build", image, "--store", h.store(), "--ready", "http://:80/", option}, command...)...); err != nil {
		return "", err
	}
	return "", errors.Join(start(ctx, h.store(), name, option), confined(ctx, name, "unconfined"), quiet(ctx, "docker", "rm", "-f", name))
}

// confined compares the profile of a container's first process.
func confined(ctx context.Context, name, want string) error {
	pid, err := output(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", name)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join("/proc", pid, "attr/apparmor/current"))
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(b)); got != want {
		return fmt.Errorf("%s is in the profile %q, want %q", name, got, want)
	}
	return nil
}
