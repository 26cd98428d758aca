package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/docker/docker/client"
	"golang.org/x/sys/unix"
)

// pin confines the engine, containerd and this process, and with them whatever they start from now on (shims, runc,
// CRIU, Podman), to the first n CPUs, as if the machine had no more. Containers are confined by their cgroup, because
// runc resets the affinity of what it starts. The bucket is not confined: it stands for one that is elsewhere.
func pin(n int) error {
	runtime.GOMAXPROCS(n)
	pids := []int{os.Getpid()}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	for _, file := range comms {
		comm, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		switch strings.TrimSpace(string(comm)) {
		case "dockerd", "containerd":
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return fmt.Errorf("process of %s: %w", file, err)
			}
			pids = append(pids, pid)
		}
	}
	var cpus unix.CPUSet
	for i := range n {
		cpus.Set(i)
	}
	for _, pid := range pids {
		if err := pinThreads(pid, cpus); err != nil {
			return fmt.Errorf("confine process %d to %d CPUs: %w", pid, n, err)
		}
	}
	return nil
}

// unpin gives the CPUs back.
func unpin() error { return pin(runtime.NumCPU()) }

// pinThreads repeats until it finds no thread that is not confined, since one that was not may have started another.
func pinThreads(pid int, cpus unix.CPUSet) error {
	for changed := true; changed; {
		changed = false
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			var now unix.CPUSet
			if err := unix.SchedGetaffinity(tid, &now); errors.Is(err, unix.ESRCH) || now == cpus {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &cpus); errors.Is(err, unix.ESRCH) {
				continue
			} else if err != nil {
				return err
			}
			changed = true
		}
	}
	return nil
}

// checkPinned reports whether a container's process may use the first n CPUs and no others.
func checkPinned(ctx context.Context, docker *client.Client, id string, n int) error {
	c, err := docker.ContainerInspect(ctx, id)
	if err != nil {
		return err
	}
	return checkProcessPinned(c.State.Pid, n)
}

func checkProcessPinned(pid, n int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, allowed, _ := strings.Cut(string(status), "\nCpus_allowed_list:")
	allowed, _, _ = strings.Cut(allowed, "\n")
	if allowed = strings.TrimSpace(allowed); allowed != cpuset(n) {
		return fmt.Errorf("process %d may run on CPUs %s, and was to be confined to %s", pid, allowed, cpuset(n))
	}
	return nil
}
