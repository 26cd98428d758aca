package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// freezeStall is how long a freeze may go without a sign of life: a line in CRIU's log, or a byte in an image. CRIU's own
// limit does not help where it hangs in the kernel.
const freezeStall = time.Minute

// Stopped names a process of a running donor that is stopped (SIGSTOP or SIGTSTP), as "process 7 (sleep)", by its pid inside
// the container; "" if none is, or where it does not matter. Below the freezer of cgroup v1, the kernel does not let CRIU
// attach to such a process: it would wait for ever, and with it every call to the engine about the container. It must
// be asked before the engine is told to freeze the donor: the engine pauses it first, and nothing can be told apart then.
func (d RunDir) Stopped(containerID string) (string, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return "", nil
	}
	pids, err := container{run: d, id: containerID}.processes()
	if err != nil {
		return "", err
	}
	return stoppedOf(pids), nil
}

// Traced names a process of a running donor that another process traces, as "process 7 (sleep)"; "" if none is. CRIU can't attach to
// such a process, and takes it for one that is ending, for which it waits.
func (d RunDir) Traced(containerID string) (string, error) {
	pids, err := container{run: d, id: containerID}.processes()
	if err != nil {
		return "", err
	}
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err == nil && tracer.Match(status) {
			return insideName(pid), nil
		}
	}
	return "", nil
}

var tracer = regexp.MustCompile(`(?m)^TracerPid:\s*[1-9]`)

// Processes returns the pids of a donor's processes, in the host's numbers.
func (d RunDir) Processes(containerID string) ([]int, error) {
	return container{run: d, id: containerID}.processes()
}

// processes returns the pids of a donor's processes, in the host's numbers.
func (c container) processes() ([]int, error) {
	m, err := c.cgroup()
	if m == nil || err != nil {
		return nil, err
	}
	pids, err := m.GetAllPids()
	if err != nil {
		return nil, fmt.Errorf("processes of container %.12s: %w", c.id, err)
	}
	return pids, nil
}

// stoppedOf names the first of some processes that is stopped, as "process 7 (sleep)", by its pid inside
// the container; "" if none is.
func stoppedOf(pids []int) string {
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue // ended meanwhile
		}
		stat, err := p.Stat()
		if err != nil || stat.State != "T" {
			continue
		}
		return insideName(pid)
	}
	return ""
}

// insideName names a process by its pid inside the container and its program: "process 7 (sleep)".
func insideName(pid int) string {
	inside, name := uint64(pid), "ended"
	if p, err := procfs.NewProc(pid); err == nil {
		if status, err := p.NewStatus(); err == nil && len(status.NSpids) > 0 {
			inside, name = status.NSpids[len(status.NSpids)-1], status.Name
		}
	}
	return fmt.Sprintf("process %d (%s)", inside, name)
}

// How often a donor is stopped anew because one of its processes was just starting another, and how long it runs between.
const (
	momentAttempts = 50
	momentPause    = 2 * time.Millisecond
)

// awaitMoment returns when the donor, which the engine has paused already, can be frozen. A thread that starts a process by vfork or
// posix_spawn sleeps until that process has executed its program, and can't be stopped before. CRIU stops the other one first, and
// would wait for ever. So the donor runs on for a moment, and is paused at another one.
func (c container) awaitMoment() error {
	if err := c.noteFailure(nil); err != nil { // of an earlier attempt
		return err
	}
	m, err := c.cgroup()
	if m == nil || err != nil {
		return err
	}
	var starting string
	for range momentAttempts {
		if state, err := m.GetFreezerState(); err != nil || state != cgroups.Frozen {
			return err // it was not paused
		}
		pids, err := c.processes()
		if err != nil {
			return err
		}
		if starting = startingProcess(pids); starting == "" {
			return nil
		}
		if err := c.thaw(); err != nil {
			return err
		}
		time.Sleep(momentPause)
		if err := m.Freeze(cgroups.Frozen); err != nil {
			return fmt.Errorf("pause container %.12s: %w", c.id, err)
		}
	}
	failure := &criu.Failure{
		Meaning: starting + " starts processes all the time, and can't be frozen while it does",
		Remedy:  "build again, when the app starts fewer processes",
		Passing: true,
	}
	return errors.Join(failure, c.noteFailure(failure))
}

// startingProcess names the first of some processes, all of which are paused, that has a thread in a system call that waits for a
// process to execute its program; "" if none has.
func startingProcess(pids []int) string {
	for _, pid := range pids {
		calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil {
			continue
		}
		for _, file := range calls {
			call, err := os.ReadFile(file)
			if err == nil && waitsForExec(string(call)) {
				return insideName(pid)
			}
		}
	}
	return ""
}

// waitsForExec reports whether a line of /proc/PID/syscall, "NUMBER ARGUMENT…" or "running", is a call that lets the caller
// wait like vfork does. Of clone3, whose flags are in the caller's memory, it is taken for granted: it returns at once otherwise.
func waitsForExec(call string) bool {
	var number, flags uint64
	if _, err := fmt.Sscanf(call, "%d %v", &number, &flags); err != nil {
		return false
	}
	return number == unix.SYS_VFORK || number == unix.SYS_CLONE && flags&unix.CLONE_VFORK != 0 || number == unix.SYS_CLONE3
}

// errStalled means that a freeze stood still and was ended.
var errStalled = errors.New("freezing stood still")

// watchFreeze runs runc, which runs CRIU, in a process group of their own, and kills the group when nothing grows in dirs for
// the given time; it returns errStalled then.
func watchFreeze(cmd *exec.Cmd, stall time.Duration, dirs ...string) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	killed := make(chan bool, 1)
	go func() { killed <- killStalled(-cmd.Process.Pid, ended, stall, dirs) }()
	// The group's leader stays in the process table until Wait returns, so that its number can't belong to anybody else.
	err := waitExited(cmd.Process.Pid)
	close(ended)
	stalled := <-killed
	if err := errors.Join(err, cmd.Wait()); err != nil {
		if stalled {
			return fmt.Errorf("%w for %s", errStalled, stall)
		}
		return err
	}
	return nil
}

// waitExited returns when a child has ended, and leaves it to be waited for.
func waitExited(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// killStalled kills a process group when nothing has grown in dirs for a time, and reports whether it did. It returns when
// the group's leader has ended.
func killStalled(group int, ended <-chan struct{}, stall time.Duration, dirs []string) bool {
	const looks = 20
	tick := time.NewTicker(max(stall/looks, time.Millisecond))
	defer tick.Stop()
	size, since := int64(-1), time.Now()
	for {
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
		if now := sizeOf(dirs); now != size {
			size, since = now, time.Now()
		}
		if time.Since(since) > stall {
			_ = unix.Kill(group, unix.SIGKILL)
			<-ended
			return true
		}
	}
}

// sizeOf adds up the files below some directories. One that vanishes meanwhile does not count.
func sizeOf(dirs []string) (n int64) {
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // as said above
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				n += info.Size()
			}
			return nil
		})
	}
	return n
}

// afterStall thaws a donor whose freeze was killed, since nothing else will: its processes could not even be killed. The error
// says which process it was that CRIU waited for, where that can be seen, and CRIU's last words otherwise.
func (c container) afterStall(err error) error {
	terr := c.thaw()
	culprit := lastLine(filepath.Join(c.path(workName), dumpLog))
	const looks = 20 // until a process that was thawed is seen in the state that it was frozen in
	for range looks {
		pids, perr := c.processes()
		if stopped := stoppedOf(pids); perr == nil && stopped != "" {
			culprit = ": " + stopped + " is stopped: let the app continue it (SIGCONT)"
			break
		}
		time.Sleep(freezeStall / 1000)
	}
	return errors.Join(fmt.Errorf("%w%s; CRIU was killed", err, culprit), terr)
}

func (c container) thaw() error {
	m, err := c.cgroup()
	if m == nil || err != nil {
		return err
	}
	if err := m.Freeze(cgroups.Thawed); err != nil {
		return fmt.Errorf("thaw container %.12s: %w", c.id, err)
	}
	return nil
}

// criuKilled returns an error if runc says that a signal ended CRIU, and nil otherwise. runc gives it the name of whatever it was
// doing with CRIU, which at first is to ask for its version.
func criuKilled(said string) error {
	_, signal, found := strings.Cut(said, "criu swrk failed: signal: ")
	if !found {
		return nil
	}
	signal, _, _ = strings.Cut(signal, "\n")
	return fmt.Errorf("CRIU was ended by a signal (%s) while it froze the app; if the kernel's out-of-memory killer did it, dmesg says so",
		strings.TrimRight(signal, `" `))
}

// runCheckpoint lets runc and CRIU freeze the donor. It prefers CRIU's own first error over runc's.
func (c container) runCheckpoint(args []string, images string) error {
	cmd, err := runcCommand(args...)
	if err != nil {
		return err
	}
	// runc's words go to a file: what it started may outlive it, and would hold a pipe open.
	out, err := os.CreateTemp(c.path(workName), "runc-checkpoint-")
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stderr = out
	err = watchFreeze(cmd, freezeStall, c.path(workName), images)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errStalled):
		return c.afterStall(err)
	}
	said, rerr := os.ReadFile(out.Name())
	if killed := criuKilled(string(said)); killed != nil {
		return killed
	}
	return c.explain(dumpLog, errors.Join(fmt.Errorf("runc checkpoint: %w: %s", err, strings.TrimSpace(string(said))), rerr))
}
