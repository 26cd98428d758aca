package ociruntime

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// startClone releases the clone and returns when it runs. One that was to boot cold is left to runc.
func (c container) startClone(inv invocation) error {
	err := c.ask(message{Command: "start"})
	if !errors.Is(err, errNoSupervisor) && !errors.Is(err, errSupervisorDied) {
		return err
	}
	switch report, rerr := c.run.ReadReport(c.id); {
	case rerr == nil && report.Cold != "":
		return execRunc(inv.args)
	case rerr == nil && report.Failure != nil:
		return report.Failure
	case rerr == nil && report.Error != "":
		return errors.New(report.Error)
	case errors.Is(err, errNoSupervisor):
		return fmt.Errorf("container %.12s is not waiting to be started: its restore was ended from outside", c.id)
	default:
		return err
	}
}

// abort ends a restore that is under way, and reports whether there was one. One that ends at this moment counts as ended.
func (c container) abort() (bool, error) {
	err := c.ask(message{Command: "abort"})
	if errors.Is(err, errNoSupervisor) || errors.Is(err, errSupervisorDied) {
		return false, nil
	}
	return true, err
}

// kill signals a clone. One that still waits in its hook is not known to runc yet: any signal ends it.
func (c container) kill(inv invocation) error {
	if aborted, err := c.abort(); aborted {
		return err
	}
	if !c.known(inv) {
		return c.killTask() // the supervisor was killed before runc knew the container
	}
	return execRunc(inv.args)
}

// known reports whether runc knows the container, which it does from the end of a restore on.
func (c container) known(inv invocation) bool {
	cmd, err := runcCommand(append(append([]string{}, inv.global...), "state", c.id)...)
	return err != nil || cmd.Run() == nil
}

// killTask ends the first task of a clone that only the supervisor knew.
func (c container) killTask() error {
	var t task
	if err := readJSON(c.path(taskName), &t); err != nil {
		return fmt.Errorf("container does not exist: %w", err) // the words that containerd takes for "not found"
	}
	fd, err := unix.PidfdOpen(t.Pid, 0)
	if err != nil {
		return fmt.Errorf("no such process: %w", err)
	}
	defer unix.Close(fd)
	if started, err := startTime(t.Pid); err != nil || started != t.Started {
		return fmt.Errorf("no such process: %d", t.Pid)
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// delete lets runc delete the container and removes what we made for this start. The report and the logs stay until
// the writer of the request forgets it.
func (c container) delete(inv invocation) error {
	if _, err := c.abort(); err != nil {
		return err
	}
	if !c.known(inv) { // the restore was killed, and runc kills only what it knows
		_ = c.killTask()
		if err := c.killCgroup(); err != nil {
			return err
		}
	}
	if err := c.tidyAfterKill(inv); err != nil {
		return err
	}
	cmd, err := runcCommand(inv.args...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	rerr := cmd.Run()
	if rerr != nil {
		rerr = fmt.Errorf("runc delete: %w", rerr)
	}
	return errors.Join(rerr, c.removePlaced(), c.removeCgroup(), c.removeNetns(), c.removeTransient())
}
