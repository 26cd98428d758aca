package criu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/semver"
	"golang.org/x/sys/unix"
)

// MinVersion is the oldest CRIU that works: earlier ones fail on current kernels.
const MinVersion = "4.2"

// ErrUnfit is returned where a host can't take what another one has frozen.
var ErrUnfit = errors.New("unfit host")

// Host is what matters of a machine to CRIU.
type Host struct {
	Kernel string `json:"kernel"` // release, for example "6.18.44"
	CRIU   string `json:"criu"`   // version, for example "4.2.1"

	CPUModel     string   `json:"cpu_model"`
	CPUFeatures  []string `json:"cpu_features"`             // flags as in /proc/cpuinfo, sorted
	CPUXFeatures uint64   `json:"cpu_xfeatures,omitempty"`  // register sets in use, as bits of XCR0; 0 means unknown
	XSaveSize    uint32   `json:"xsave_size"`               // bytes of the register sets in use; 0 means unknown
	XSaveMax     uint32   `json:"xsave_size_max,omitempty"` // bytes of all register sets there are; 0 means unknown

	// CPUBaseline is what an app that was frozen here had been held to: it needs no other of CPUFeatures. "" if it was not.
	CPUBaseline Baseline `json:"cpu_baseline,omitempty"`

	// Profiles are the AppArmor profiles that what was frozen here ran in; HostInfo leaves them out.
	Profiles []string `json:"apparmor_profiles,omitempty"`
}

// HostInfo asks the kernel and CRIU about this machine. The answers are kept until the next boot, or until criu
// changes: asking costs some 0.1 s, and every start of a clone needs them.
func HostInfo(ctx context.Context) (Host, error) {
	path, err := exec.LookPath("criu")
	if err != nil {
		return Host{}, fmt.Errorf("criu is not installed: install CRIU %s or later: %w", MinVersion, err)
	}
	return hostInfo(ctx, path, hostCache)
}

// CheckHost reports the first reason why what was frozen on one host can't be restored on another, in one sentence.
// Errors wrap ErrUnfit.
func CheckHost(frozen, here Host) error {
	if Older(here.CRIU, frozen.CRIU) {
		return fmt.Errorf("%w: CRIU %s made the snapshot, and this host has %s", ErrUnfit, frozen.CRIU, here.CRIU)
	}
	if Older(minor(here.Kernel), minor(frozen.Kernel)) {
		return fmt.Errorf("%w: the snapshot was made on Linux %s, and this host has %s", ErrUnfit, frozen.Kernel, here.Kernel)
	}
	if err := checkCPU(frozen, here); err != nil {
		return err
	}
	return checkProfiles(frozen.Profiles)
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+){0,2}`)

// Older reports whether version a is older than b. Both are numbers separated by dots, and whatever stands around the
// first three of them does not count: "6.18.44-cloud" is as old as "6.18.44". One without a number is older than any other.
func Older(a, b string) bool {
	return semver.Compare("v"+versionPattern.FindString(a), "v"+versionPattern.FindString(b)) < 0
}

// minor cuts a kernel release to the part that decides about features: "6.18".
func minor(release string) string {
	parts := strings.SplitN(versionPattern.FindString(release), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// Version returns the version of the criu binary at path.
func Version(ctx context.Context, path string) (string, error) {
	out, err := run(ctx, path, "--version")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(out, "\n") // the second line tells the commit
	version, ok := strings.CutPrefix(first, "Version: ")
	if !ok {
		return "", fmt.Errorf("%s --version printed %q, want a line \"Version: …\"", path, first)
	}
	return strings.TrimSpace(version), nil
}

// Check runs `criu check`, which reports whether the kernel has what CRIU needs.
func Check(ctx context.Context, path string) error {
	_, err := run(ctx, path, "check")
	return err
}

func kernelRelease() (string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	return unix.ByteSliceToString(uts.Release[:]), nil
}

// run runs criu and returns its standard output; errors carry what it printed to standard error.
func run(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// measure finds out about this host without the cache.
func measure(ctx context.Context, path string) (Host, error) {
	kernel, err := kernelRelease()
	if err != nil {
		return Host{}, err
	}
	version, err := Version(ctx, path)
	if err != nil {
		return Host{}, err
	}
	dir, err := os.MkdirTemp("", "criu-cpuinfo-")
	if err != nil {
		return Host{}, err
	}
	defer os.RemoveAll(dir)
	if _, err := run(ctx, path, "cpuinfo", "dump", "--images-dir", dir); err != nil {
		return Host{}, err
	}
	host := Host{Kernel: kernel, CRIU: version}
	return host, readCPU("/proc/cpuinfo", filepath.Join(dir, "cpuinfo.img"), &host)
}
