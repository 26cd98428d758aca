package pages

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const overcommitFile = "/proc/sys/vm/overcommit_memory"

// Works returns why memory can't be restored lazily on this host, given the largest private mapping of the processes, in bytes.
func Works(largestMapping int64) error {
	if err := reservableHere(largestMapping); err != nil {
		return err
	}
	return Supported()
}

// reservableHere reports whether this kernel grants a mapping of that many bytes to a lazy restore: unless it is told to grant anything, it
// refuses what is more than all of its memory and swap (Documentation/mm/overcommit-accounting.rst).
func reservableHere(bytes int64) error {
	mode, err := os.ReadFile(overcommitFile)
	if err != nil {
		return err
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	return reservable(bytes, strings.TrimSpace(string(mode)), (info.Totalram+info.Totalswap)*uint64(info.Unit))
}

func reservable(bytes int64, mode string, memory uint64) error {
	if mode == "1" || bytes < 0 || uint64(bytes) <= memory {
		return nil
	}
	return fmt.Errorf("the app reserves %d GiB of address space in one piece, and this host has %d GiB of memory: set sysctl vm.overcommit_memory to 1 for a lazy restore",
		bytes>>30, memory>>30)
}
