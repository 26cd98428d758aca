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

// apparmor compares the profiles of clones with those of cold containers: Docker's own, and what is left where none was asked for.
func (h *host) apparmor(ctx context.Context) (string, error) {
	if _, err := os.Stat("/sys/kernel/security/apparmor"); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: this kernel has no AppArmor", errSkipped)
	}
	usual, err := profile(ctx, web1)
	if err != nil {
		return "", err
	}
	if usual != "docker-default (enforce)" {
		return "", fmt.Errorf("%s is in the profile %q", web1, usual)
	}
	const hot, cold, option = "hosts-unconfined", "hosts-unconfined-cold", "--security-opt=apparmor=unconfined"
	defer func() { _ = quiet(context.WithoutCancel(ctx), "docker", "rm", "-f", hot, cold) }() // what is left is found by the last step
	if err := quiet(ctx, "criu-docker", append([]string{"build", image, "--store", h.store(), "--ready", "http://:80/", option}, command...)...); err != nil {
		return "", err
	}
	if err := start(ctx, h.store(), hot, option); err != nil {
		return "", err
	}
	if err := quiet(ctx, "docker", append([]string{"run", "-d", "--name", cold, option, image}, command[1:]...)...); err != nil {
		return "", err
	}
	of := map[string]string{}
	for _, name := range []string{hot, cold} {
		if of[name], err = profile(ctx, name); err != nil {
			return "", err
		}
	}
	if of[hot] != of[cold] || strings.Contains(of[hot], "enforce") {
		return "", fmt.Errorf("unconfined, a clone is in the profile %q, and a cold container in %q", of[hot], of[cold])
	}
	return "", nil
}

// profile returns what confines a container's first process, and how.
func profile(ctx context.Context, name string) (string, error) {
	pid, err := output(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", name)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join("/proc", pid, "attr/apparmor/current"))
	return strings.TrimSpace(string(b)), err
}
