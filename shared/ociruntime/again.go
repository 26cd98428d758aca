package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// Annotations of a clone's container, which last as long as it does: should all that we know of it be lost, they still tell
// a clone from a container that is none of ours, and what its start may come to.
const (
	policyAnnotation = "io.criu-docker.policy"
	engineAnnotation = "io.criu-docker.engine"

	coldBootAllowed   = "if_present"
	coldBootForbidden = "always"
	coldBootAlways    = "never"
)

// ColdAnnotations returns what a container of ours that boots cold is to be created with: it is runc's, but has an identity.
func ColdAnnotations() map[string]string { return map[string]string{policyAnnotation: coldBootAlways} }

// Annotations returns what a clone's container is to be created with.
func Annotations(engine string, coldBoot bool) map[string]string {
	policy := coldBootForbidden
	if coldBoot {
		policy = coldBootAllowed
	}
	return map[string]string{policyAnnotation: policy, engineAnnotation: engine}
}

// createAgain starts a clone that its engine starts again, of its own accord or for its user. Nothing else carries out the
// policy then, so it is done here.
func (c container) createAgain(inv invocation, req Request) error {
	last, err := c.run.ReadReport(c.id)
	if err != nil {
		last = Report{} // what it would tell was of use, and is none now
	}
	o, reason := orderAgain(req, last, func() (criu.Host, error) { return criu.HostInfo(context.Background()) })
	if reason == nil {
		if o.note != "" {
			warn(inv.bundle, c.id, o.note)
		}
		place, err := awaitTurn()
		if err != nil {
			return err
		}
		o.turn = place.File()
		reason = c.restore(inv, req, o)
		place.End() // the supervisor has a copy
		if reason == nil {
			return nil
		}
	}
	if !req.ColdBoot {
		return errors.Join(reason, c.removePlaced(), c.removeNetns())
	}
	c.undoRestore(inv)
	if b, err := loadBundle(inv.bundle); err == nil { // or runc will say what is wrong with it
		b.removeLinks(req.CheckpointDir)
	}
	return c.bootCold(inv, req.Engine, reason)
}

// order is how a clone is to be restored, beyond its request.
type order struct {
	timeout      time.Duration
	networkFirst bool
	lazy         bool
	turn         *os.File // the place among the restores of this machine, until this one is done; nil if the caller has it
	note         string   // what is unusual about it; "" if nothing is
}

// order is that of a start that its caller sees through.
func (a Attendance) order(req Request) order {
	o := order{timeout: a.Timeout, networkFirst: req.NetworkFirst, lazy: req.Lazy}
	if o.timeout == 0 {
		o.timeout = req.Timeout
	}
	return o
}

// orderAgain returns how a clone is restored again on this host, or why that can't be.
func orderAgain(req Request, last Report, host func() (criu.Host, error)) (order, error) {
	// An engine does not read our report: where the restore goes on before the engine calls start, and fails, the engine
	// finds the container ended and does not ask why.
	o := order{timeout: req.Timeout, networkFirst: true, lazy: req.Lazy}
	if _, err := os.Stat(req.CheckpointDir); errors.Is(err, fs.ErrNotExist) {
		return o, fmt.Errorf("what it would be restored from is gone: %w", err)
	} else if err != nil {
		return o, err
	}
	whole, err := req.Source.whole()
	if err != nil {
		return o, err
	}
	here, err := host()
	if err != nil {
		return o, fmt.Errorf("this host: %w", err)
	}
	if err := criu.CheckHost(req.Host, here); err != nil {
		return o, err
	}
	switch {
	case last.Lost != "" && whole:
		o.lazy = false
		o.note = "all of its memory is restored before it runs, since the last time " + last.Lost
	case last.Lost != "" && req.ColdBoot:
		return o, fmt.Errorf("the last time %s", last.Lost)
	case last.Cold == "" && last.Error != "" && req.ColdBoot:
		return o, fmt.Errorf("the last time it could not be restored: %s", last.Error)
	}
	return o, nil
}

// FillingWhole begins the file at Source.State when all page images are whole and on disk. Until then the file begins with the id of
// the boot in which they were begun: what was not made durable before the next one is worth nothing.
const FillingWhole = "whole"

// whole reports whether nothing has to come from a source any more. Page images that the machine went down over are an error.
func (s *Source) whole() (bool, error) {
	if s == nil || s.State == "" {
		return true, nil
	}
	f, err := os.Open(s.State)
	if err != nil {
		return false, fmt.Errorf("what it would be restored from is gone: %w", err)
	}
	defer f.Close()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return false, err
	}
	const idLength = 36
	head := make([]byte, idLength)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false, fmt.Errorf("%s: %w", s.State, err)
	}
	switch {
	case string(head[:len(FillingWhole)]) == FillingWhole:
		return true, nil
	case string(head) == string(boot[:min(idLength, len(boot))]):
		return false, nil
	default:
		return false, errors.New("the machine went down before all of its snapshot was fetched")
	}
}

// createForgotten starts a container that has no request, or one that can't be read. Most are none of ours, and runc's.
func (c container) createForgotten(inv invocation, reason error) error {
	b, err := loadBundle(inv.bundle)
	if err != nil {
		return execRunc(inv.args) // which has its own words for it
	}
	policy := b.spec.Annotations[policyAnnotation]
	if policy == "" {
		if !errors.Is(reason, fs.ErrNotExist) {
			return reason
		}
		return execRunc(inv.args)
	}
	if policy == coldBootAlways {
		c.identify(b, FromBoot)
		return execRunc(inv.args)
	}
	if errors.Is(reason, fs.ErrNotExist) {
		reason = errors.New("what this machine knew of it is gone")
	}
	if policy != coldBootAllowed {
		err := fmt.Errorf("container %.12s was started from a snapshot, with the policy %q, and can't be started again: %w: remove it and start another one", c.id, policy, reason)
		c.noteError(err)
		return err
	}
	return c.bootCold(inv, b.spec.Annotations[engineAnnotation], reason)
}

// bootCold leaves the container to runc, and says why. It returns only if that fails.
func (c container) bootCold(inv invocation, engine string, reason error) error {
	warn(inv.bundle, c.id, "cold boot: "+reason.Error())
	if err := c.removePlaced(); err != nil {
		warn(inv.bundle, c.id, "what the attempt to restore it has placed stays on its mounts: "+err.Error())
	}
	if err := c.reset(); err != nil {
		return err
	}
	if err := c.writeReport(Report{Cold: reason.Error(), Engine: engine}); err != nil {
		return err
	}
	if b, err := loadBundle(inv.bundle); err == nil { // or runc will say what is wrong with it
		c.identify(b, FromBoot)
	}
	return execRunc(inv.args)
}

// undoRestore removes what a restore that failed may have left, so that runc can create the container. What can't be removed
// is noticed there.
func (c container) undoRestore(inv invocation) {
	_ = c.killTask()
	_ = c.killCgroup()
	_ = c.tidyAfterKill(inv)
	_ = c.removeCgroup()
}

// warn says something about a container in its engine's log: containerd copies to its own what a shim writes to this pipe in the
// container's bundle. Other engines have none, and the report says the same.
func warn(bundle, id, message string) {
	f, err := os.OpenFile(filepath.Join(bundle, "log"), os.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Type() != fs.ModeNamedPipe {
		return
	}
	fmt.Fprintf(f, "time=%q level=warning msg=%q container=%s runtime=%s\n", time.Now().UTC().Format(time.RFC3339Nano), message, id, Name)
}
