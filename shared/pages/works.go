package pages

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const overcommitFile = "/proc/sys/vm/overcommit_memory"

// Works returns why memory can't be restored lazily on this host, given the largest private mapping of the processes, in bytes, and
// whether they may make guard regions.
func Works(largestMapping int64, guardRegions bool) error {
	if err := reservableHere(largestMapping); err != nil {
		return err
	}
	if guardRegions && hasGuardRegions() {
		return errors.New("the container has no seccomp filter, or one with rules of its own for madvise, so that the app may make guard regions " +
			"(MADV_GUARD_INSTALL), of which a page server gets no word")
	}
	return Supported()
}

// hasGuardRegions reports whether this kernel has them (Linux 6.13).
func hasGuardRegions() bool {
	const guardInstall = 102
	page, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return true // the careful answer
	}
	defer unix.Munmap(page) //nolint:errcheck // of a mapping that is there
	return unix.Madvise(page, guardInstall) == nil
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
