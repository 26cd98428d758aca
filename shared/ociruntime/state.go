package ociruntime

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/procfs"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// taskName holds the clone's first task while only the supervisor knows it.
const taskName = "task.json"

// task identifies a process across pid reuse.
type task struct {
	Pid     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks after boot
}

// reset makes the container's directory as if it had never been started: nothing of an earlier start (pid, socket,
// result, log) may be taken for this one's.
func (c container) reset() error {
	if err := c.removeState(); err != nil {
		return err
	}
	return c.run.makeSub(containersDir, c.id)
}

// removeTransient removes what is of no use once the container has ended.
func (c container) removeTransient() error {
	var errs []error
	for _, name := range []string{socketName, confName, taskName, cgroupName, identityName} {
		if err := os.Remove(c.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c container) writeReport(r Report) error { return writeJSON(c.path(reportName), r) }

// noteError keeps in the report what the engine is told. The engine has it anyway, so nothing is lost where that fails.
func (c container) noteError(err error) {
	if c.run.makeSub(containersDir, c.id) != nil {
		return
	}
	if r, rerr := c.run.ReadReport(c.id); rerr == nil {
		r.Error = err.Error()
		_ = c.writeReport(r)
	}
}

func (c container) addSteps(steps []Step) error {
	r, err := c.run.ReadReport(c.id)
	if err != nil {
		return err
	}
	r.Steps = append(r.Steps, steps...)
	return c.writeReport(r)
}

func (c container) writeTask(pid int) error {
	started, err := startTime(pid)
	if err != nil {
		return err
	}
	return writeJSON(c.path(taskName), task{Pid: pid, Started: started})
}

func startTime(pid int) (uint64, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := p.Stat()
	return stat.Starttime, err
}

// explain replaces runc's error by CRIU's own, if CRIU's log has one, and keeps it in the report.
func (c container) explain(log string, err error) error {
	f, oerr := os.Open(c.path(workName) + "/" + log)
	if oerr != nil {
		return err // CRIU did not get so far as to write a log
	}
	defer f.Close()
	failure := criu.Diagnose(f)
	if failure == nil {
		return err
	}
	return errors.Join(failure, c.noteFailure(failure))
}

// noteFailure keeps in the report how the last freeze or restore failed in CRIU, or that none has yet.
func (c container) noteFailure(failure *criu.Failure) error {
	report, err := c.run.ReadReport(c.id)
	report.Failure = failure
	if failure == nil {
		report.Error = ""
	}
	return errors.Join(err, c.writeReport(report))
}

// lastLine returns ": LINE" with the last line of a log file, or "".
func lastLine(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	var last string
	for s := bufio.NewScanner(f); s.Scan(); {
		last = s.Text()
	}
	if last == "" {
		return ""
	}
	return ": " + last
}

func decodeJSON(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%q: %w", b, err)
	}
	return nil
}
