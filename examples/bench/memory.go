package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

const (
	// fillTimeout bounds what the runtime does for a clone that has answered already.
	fillTimeout = 2 * time.Minute
	// fillInterval is longer than pollInterval, since the search for processes takes time from those that fill.
	fillInterval = 20 * time.Millisecond
)

// proportional is the memory that containers and all that works for them take, in bytes: their processes, their shims, and
// what the runtime leaves running beside them. What several of these map, as a file in the page cache, counts once.
func proportional(ids []string) (int64, error) {
	list, err := processesOf(ids)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, p := range list {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if ended(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n, err := pss(string(rollup))
		if err != nil {
			return 0, fmt.Errorf("memory of process %d: %w", p.pid, err)
		}
		sum += n
	}
	return sum, nil
}

// pss reads the bytes of a process's proportional set from its smaps_rollup.
func pss(rollup string) (int64, error) {
	for line := range strings.Lines(rollup) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no line begins with \"Pss:\"")
}

// awaitFilled returns when the runtime is done with containers, which may be some time after they have answered: their
// memory is still being filled in, and so may be the cache.
func awaitFilled(ctx context.Context, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	tick := time.NewTicker(fillInterval)
	defer tick.Stop()
	for {
		list, err := processesOf(ids)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(p process) bool { return filepath.Base(p.args[0]) == ociruntime.Name })
		if i < 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the runtime goes on working for a container, as process %d: %s: %w", list[i].pid, strings.Join(list[i].args, " "), ctx.Err())
		}
	}
}

// process is one that has not ended; args[0] is there.
type process struct {
	pid  int
	args []string
}

// processesOf finds what runs in containers, and what names one in its arguments.
func processesOf(ids []string) ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var list []process
	for _, dir := range dirs {
		args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if ended(err) || err == nil && len(args) == 0 { // the kernel's own, and zombies
			continue
		}
		if err != nil {
			return nil, err
		}
		cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if ended(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		where := string(args) + string(cgroup)
		if !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(where, id) }) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		list = append(list, process{pid, strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")})
	}
	return list, nil
}

// ended tells that a process was gone when its files were read.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }
