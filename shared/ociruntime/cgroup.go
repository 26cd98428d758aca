package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// cgroupName holds where the container's cgroup is: runc makes it before it knows the container, so that a restore that
// is killed leaves one that `runc delete` doesn't find.
const cgroupName = "cgroup.json"

func (c container) noteCgroup(b *bundle, inv invocation) error {
	path := b.spec.Linux.CgroupsPath
	if path == "" {
		return nil // runc's default; no engine leaves it out
	}
	cg := cgroups.Cgroup{Path: path}
	if inv.systemdCgroup {
		parts := strings.Split(path, ":")
		if len(parts) != 3 {
			return fmt.Errorf("bundle %s: cgroupsPath = %q: want SLICE:PREFIX:NAME with systemd", b.dir, path)
		}
		cg = cgroups.Cgroup{Parent: parts[0], ScopePrefix: parts[1], Name: parts[2], Systemd: true}
	}
	return writeJSON(c.path(cgroupName), cg)
}

// cgroup returns the container's cgroup; nil if none was noted.
func (c container) cgroup() (cgroups.Manager, error) {
	var cg cgroups.Cgroup
	if err := readJSON(c.path(cgroupName), &cg); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	cg.Resources = &cgroups.Resources{} // the manager wants some; none of them survive as JSON
	m, err := manager.New(&cg)
	if err != nil {
		return nil, fmt.Errorf("cgroup of container %.12s: %w", c.id, err)
	}
	return m, nil
}

// Processors returns the processors that a container may use, as the kernel lists them: "0-3,8".
func (d RunDir) Processors(containerID string) (string, error) {
	m, err := container{run: d, id: containerID}.cgroup()
	if m == nil || err != nil {
		return "", err
	}
	dir, file := m.Path("cpuset"), "cpuset.effective_cpus"
	if cgroups.IsCgroup2UnifiedMode() {
		dir, file = m.Path(""), "cpuset.cpus.effective"
	}
	for {
		list, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, os.ErrNotExist) && dir != filepath.Dir(dir) {
			dir = filepath.Dir(dir) // the controller is not in use there, and what is above counts
			continue
		}
		return strings.TrimSpace(string(list)), err
	}
}

// killCgroup ends what is left in the cgroup of a restore that was killed: CRIU, which waits for ever.
func (c container) killCgroup() error {
	m, err := c.cgroup()
	if m == nil || err != nil {
		return err
	}
	pids, err := m.GetAllPids()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup of container %.12s: %w", c.id, err)
	}
	held := map[int]int{} // pidfds by pid
	for _, pid := range pids {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			held[pid] = fd
			defer unix.Close(fd)
		}
	}
	// Only what is there still is surely what the descriptors are of.
	if pids, err = m.GetAllPids(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup of container %.12s: %w", c.id, err)
	}
	for _, pid := range pids {
		if fd, ok := held[pid]; ok {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // ESRCH: gone, as it should be
		}
	}
	return nil
}

// removeCgroup removes what runc left of the container's cgroup, if anything.
func (c container) removeCgroup() error {
	m, err := c.cgroup()
	if m == nil || err != nil {
		return err
	}
	if err := m.Destroy(); err != nil {
		return fmt.Errorf("cgroup of container %.12s: %w", c.id, err)
	}
	return nil
}
