package build

import (
	"fmt"
	"os"
	"regexp"

	"github.com/prometheus/procfs"
)

// lostSemaphores warns of eventfds of the processes that are semaphores (EFD_SEMAPHORE), which CRIU makes counters of.
func lostSemaphores(pids []int) []string {
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // ended meanwhile
		}
		fds, err := p.FileDescriptors()
		if err != nil {
			continue
		}
		for _, fd := range fds {
			info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
			if err == nil && eventSemaphore.Match(info) {
				return []string{"an eventfd of the app is a semaphore (EFD_SEMAPHORE), and a counter in clones: a read there takes all at once; " +
					"let the app make it after the start only"}
			}
		}
	}
	return nil
}

var eventSemaphore = regexp.MustCompile(`(?m)^eventfd-semaphore:\s*1$`)
