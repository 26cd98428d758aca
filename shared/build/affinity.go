package build

import (
	"fmt"
	"slices"

	"github.com/opencontainers/cgroups/systemd"
	"github.com/prometheus/procfs"
)

// lostAffinity warns of a thread that keeps off processors that its container may use. Its clones don't. The container's
// processors are a list of the kernel's, "0-3,8".
func lostAffinity(pids []int, processors string) ([]string, error) {
	allowed, err := systemd.RangeToBits(processors)
	if err != nil {
		return nil, fmt.Errorf("processors of the container: %q: %w", processors, err)
	}
	keepsOff := func(status procfs.ProcStatus) bool {
		for cpu := range 8 * len(allowed) {
			if allowed[cpu/8]>>(cpu%8)&1 == 1 && !slices.Contains(status.CpusAllowedList, uint64(cpu)) {
				return true
			}
		}
		return false
	}
	for _, pid := range pids {
		threads, err := procfs.AllThreads(pid)
		if err != nil {
			continue // ended meanwhile
		}
		for _, t := range threads {
			if status, err := t.NewStatus(); err == nil && keepsOff(status) {
				return []string{fmt.Sprintf("%s avoids some of the processors %s (affinity), and its clones do not: limit the container instead "+
					"(--cpuset-cpus), or let a hook set it after the restore", status.Name, processors)}, nil
			}
		}
	}
	return nil, nil
}
