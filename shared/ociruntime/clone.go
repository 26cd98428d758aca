package ociruntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/moby/go-archive"
	"github.com/moby/go-archive/chrootarchive"
)

// errTerminal: the engine waits for the terminal's master before create is over for it, and CRIU hands it out only after
// start, when it opens the app's files in the clone's own /dev/pts.
var errTerminal = errors.New("a container with a terminal can't be restored: run it without one")

// createClone returns when the clone's first task exists: for the engine that is a created container.
func (c container) createClone(inv invocation, req Request) error {
	if inv.consoleSocket != "" {
		return errTerminal
	}
	attendance, attended, err := c.attendance()
	if err != nil {
		return err
	}
	if inv.unknown != nil && (attended || !req.ColdBoot) {
		return inv.unknown
	}
	if inv.unknown != nil {
		return c.bootCold(inv, req.Engine, inv.unknown)
	}
	if !attended {
		return c.createAgain(inv, req)
	}
	if err := c.restore(inv, req, attendance.order(req)); err != nil {
		return errors.Join(err, c.removePlaced(), c.removeNetns())
	}
	return nil
}

// restore prepares the bundle, starts the supervisor, and returns when the clone's first task exists.
func (c container) restore(inv invocation, req Request, o order) error {
	t := newTimeline()
	b, err := loadBundle(inv.bundle)
	if err != nil {
		return err
	}
	if err := c.reset(); err != nil {
		return err
	}
	t.done("create")
	if req.RootfsDelta != "" {
		if err := applyDelta(b.rootfs(), req.RootfsDelta); err != nil {
			return err
		}
		t.done("container layer")
	}
	if err := c.becomeItself(b, req); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go expectCgroupMove(ctx)
	if err := b.resolveSources(); err != nil {
		return err
	}
	if req.MountFiles != "" {
		if err := c.placeFiles(b, req.MountFiles); err != nil {
			return err
		}
		t.done("files on mounts")
	}
	if err := c.givePath(b); err != nil {
		return err
	}
	t.done("network namespace")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.annotate(criuConfigAnnotation, c.path(confName))
	if err := b.save(); err != nil {
		return err
	}
	if err := os.WriteFile(c.path(confName), []byte(req.Options.ConfigFile()), 0o600); err != nil {
		return err
	}
	if err := c.noteCgroup(b, inv); err != nil {
		return err
	}
	t.done("bundle")
	if err := c.writeReport(Report{Steps: t.steps}); err != nil {
		return err
	}
	pid, err := c.startSupervisor(self, inv, o)
	if err != nil {
		return err
	}
	return renameio.WriteFile(inv.pidFile, []byte(strconv.Itoa(pid)), 0o644)
}

// becomeItself gives the clone an identity, which its hooks get to know as well.
func (c container) becomeItself(b *bundle, req Request) error {
	i, err := b.newIdentity(FromSnapshot)
	if err != nil {
		return err
	}
	i.Snapshot = req.Snapshot
	if !req.Frozen.IsZero() {
		i.Frozen = &req.Frozen
	}
	if err := b.writeIdentity(i); err != nil {
		return err
	}
	if len(req.AfterRestore) == 0 {
		return nil
	}
	return writeJSON(c.path(identityName), i)
}

// applyDelta brings the clone's container layer to the state that the donor's had when it was frozen. CRIU checks the
// files that the app holds open by size and mode.
func applyDelta(rootfs, layer string) error {
	f, err := os.Open(layer)
	if err != nil {
		return fmt.Errorf("container layer of the snapshot: %w", err)
	}
	defer f.Close()
	if _, err := chrootarchive.ApplyUncompressedLayer(rootfs, f, &archive.TarOptions{}); err != nil {
		return fmt.Errorf("container layer of the snapshot %s: %w", layer, err)
	}
	return nil
}

// readyMessage is what the supervisor tells create, once.
type readyMessage struct {
	Pid   int    `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

// Where the supervisor finds the pipe to create, and the clone's turn if it has one of its own.
const (
	readyFd = 3
	turnFd  = 4
)

// startSupervisor starts the process that sees the restore through, and waits for the pid of the clone's first task.
func (c container) startSupervisor(self string, inv invocation, o order) (pid int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	args := append([]string{Name}, inv.global...)
	args = append(args, "supervise", "--bundle", inv.bundle, "--timeout", o.timeout.String())
	if o.networkFirst {
		args = append(args, "--network-first")
	}
	if o.lazy {
		args = append(args, "--lazy")
	}
	if inv.noPivot {
		args = append(args, "--no-pivot")
	}
	cmd := &exec.Cmd{
		Path: self,
		Args: append(args, c.id),
		// The container's own streams, which the restore passes on to the app.
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles:  []*os.File{w}, // becomes readyFd
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if o.turn != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, o.turn) // becomes turnFd
		cmd.Args = append(cmd.Args[:len(cmd.Args)-1], "--turn", c.id)
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("start supervisor: %w", err)
	}
	// The supervisor bounds the wait: it answers within the request's timeout, and its death ends the pipe.
	var ready readyMessage
	if err := json.NewDecoder(r).Decode(&ready); err != nil {
		_ = cmd.Process.Kill()
		if werr := cmd.Wait(); werr != nil {
			err = werr
		}
		return 0, fmt.Errorf("%w: %w", errSupervisorDied, err)
	}
	if ready.Error != "" {
		_ = cmd.Wait()
		return 0, errors.New(ready.Error)
	}
	return ready.Pid, cmd.Process.Release()
}

// timeline measures consecutive steps.
type timeline struct {
	steps []Step
	last  time.Time
}

// began is when this process did, as near as it can tell.
var began = time.Now()

// newTimeline begins with the process: what it does before its first step takes time as well.
func newTimeline() *timeline { return &timeline{last: began} }

func (t *timeline) done(name string) {
	now := time.Now()
	t.steps = append(t.steps, Step{Name: name, Start: t.last, Elapsed: now.Sub(t.last)})
	t.last = now
}
