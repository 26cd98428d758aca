package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// limited is a limit that the clones were started with, in the files of both versions of cgroups.
type limited struct{ controller, v1, v2, want string }

// limits looks at the cgroup of a clone's process. A controller that the host doesn't have can't limit anything.
func (h *host) limits(ctx context.Context) (string, error) {
	pid, err := output(ctx, "docker", "inspect", "-f", "{{.State.Pid}}", web1)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join("/proc", pid, "cgroup"))
	if err != nil {
		return "", err
	}
	cgroups := map[string]string{} // by controller; "" is version 2
	for line := range strings.Lines(string(b)) {
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 {
			cgroups[fields[1]] = fields[2]
		}
	}
	var lacks []string
	for _, l := range []limited{
		{"memory", "memory.limit_in_bytes", "memory.max", "67108864"},
		{"pids", "pids.max", "pids.max", "50"},
	} {
		got, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", cgroups[""], l.v2))
		if v1, ok := cgroups[l.controller]; err != nil && ok {
			got, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", l.controller, v1, l.v1))
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
			lacks = append(lacks, l.controller)
		case err != nil:
			return "", err
		case strings.TrimSpace(string(got)) != l.want:
			return "", fmt.Errorf("the limit of %s is %s, want %s", l.controller, strings.TrimSpace(string(got)), l.want)
		}
	}
	if len(lacks) > 0 {
		return "", fmt.Errorf("%w of %s: the machine of the lab keeps these controllers for cgroup v1", errSkipped, strings.Join(lacks, " and "))
	}
	return "", nil
}
