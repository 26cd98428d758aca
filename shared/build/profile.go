package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// profileTimeout bounds the restore and the requests of a profile.
const profileTimeout = time.Minute

// prove restores what was frozen as starts will, and notes in src which memory is needed first, or that it can be restored eagerly
// only. What can't be restored at all is ErrNotRestorable.
func (d *donor) prove(ctx context.Context, spec engine.Spec, src *snapshot.Source) error {
	end := d.progress.begin("profile")
	p, err := prove(ctx, pages.Works(src.Config.LargestMapping, src.Config.GuardRegions), func(lazy bool) ([]snapshot.Range, error) {
		return d.profile(ctx, spec, *src, lazy)
	})
	if err != nil {
		return err
	}
	src.First, src.Config.NoLazy = p.first, p.noLazy
	if p.noLazy != "" {
		d.progress.warn("starts have to wait until all of its memory is there, since it could not be restored lazily: %s", p.noLazy)
	}
	end(p.message)
	return nil
}

// proof is how a snapshot was restored.
type proof struct {
	first   []snapshot.Range
	noLazy  string // why no host can restore it lazily; "" if some can
	message string
}

// prove restores a snapshot lazily, unless this host is unable to, and otherwise eagerly.
func prove(ctx context.Context, unable error, restore func(lazy bool) ([]snapshot.Range, error)) (p proof, err error) {
	reason := unable
	if unable == nil {
		if p.first, reason = restore(true); reason == nil {
			p.message = fmt.Sprintf("%d KiB are needed first", total(p.first)>>10)
			return p, nil
		}
		if ctx.Err() != nil {
			return p, reason
		}
		p.noLazy = reason.Error()
	}
	if _, err := restore(false); err != nil && ctx.Err() != nil {
		return p, err
	} else if err != nil {
		return p, fmt.Errorf("%w: %w; --no-profile (in Terraform: profile = false) publishes it all the same", ErrNotRestorable, err)
	}
	p.message = fmt.Sprintf("restored eagerly only: %v", reason)
	return p, nil
}

// profile restores what was frozen once, lets it answer what the donor has answered, and returns the memory that it needed
// for that, in the order in which it did, if it is restored lazily.
func (d *donor) profile(ctx context.Context, spec engine.Spec, src snapshot.Source, lazy bool) (_ []snapshot.Range, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, profileTimeout, fmt.Errorf("it was not done within %s", profileTimeout))
	defer cancel()
	if mode := spec.Host.NetworkMode; !mode.IsHost() && !mode.IsContainer() {
		config := *spec.Config
		config.Hostname = d.hostname // it is in the images; files such as /etc/hostname are the engine's
		spec.Config = &config
	}
	id, err := d.eng.Create(ctx, spec, engine.RuntimeName)
	if err != nil {
		return nil, err
	}
	defer func() { // the build's sweep would, but the record must be complete
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		err = errors.Join(err, removeDonor(ctx, d.eng, id))
	}()
	record := ""
	if lazy {
		record = d.work.record()
	}
	err = runDir.WriteRequest(id, ociruntime.Request{
		Kind:          ociruntime.KindClone,
		Engine:        d.eng.Client.DaemonHost(),
		CheckpointDir: src.CheckpointDir,
		RootfsDelta:   src.RootfsTar,
		MountFiles:    src.MountFiles,
		Lazy:          lazy,
		Record:        record,
		NetworkFirst:  src.Config.NetworkFirst(), // as starts do
		Bound:         src.Config.BoundSockets(),
		Addresses:     src.Config.Addresses,
		OOMScore:      src.Config.OOMScore,
		Frozen:        src.Config.Created,
		AfterRestore:  src.Config.Hooks.AfterRestore,
		Options:       d.opts.Checkpoint,
		Timeout:       profileTimeout,
	})
	if err != nil {
		return nil, err
	}
	if err := runDir.Attend(id, ociruntime.Attendance{}); err != nil {
		return nil, err
	}
	if err := d.eng.Start(ctx, id); err != nil {
		report, rerr := runDir.ReadReport(id)
		switch {
		case rerr == nil && report.Failure != nil:
			return nil, report.Failure
		case rerr == nil && report.Error != "":
			return nil, errors.New(report.Error)
		}
		return nil, err
	}
	if err := d.exercise(ctx, id); err != nil || !lazy {
		return nil, err
	}
	f, err := os.Open(record)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readRecord(f)
}

// exercise asks of a clone what was asked of the donor, once.
func (d *donor) exercise(ctx context.Context, id string) error {
	c, err := d.eng.Client.ContainerInspect(ctx, id)
	if err != nil {
		return err
	}
	addr, err := address(ctx, d.eng, c)
	if err != nil {
		return err
	}
	if d.opts.Ready.Type != ProbeLog { // what the donor wrote is written
		if err := d.opts.Ready.wait(ctx, d.eng, id, addr); err != nil {
			return err
		}
	}
	for i, w := range d.opts.Warmup {
		w.Count = 1
		if err := w.send(ctx, addr, d.opts.Ready.Port); err != nil {
			return fmt.Errorf("warm-up request %d: %w", i+1, err)
		}
	}
	return nil
}

// readRecord reads what a pages.Recorder wrote, a page a line, and joins pages that follow each other.
func readRecord(r io.Reader) ([]snapshot.Range, error) {
	var list []snapshot.Range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		file, number, _ := strings.Cut(lines.Text(), " ")
		offset, err := strconv.ParseInt(number, 10, 64)
		if err != nil || filepath.Base(file) != file {
			return nil, fmt.Errorf("record of the pages that are needed: %q is no page", lines.Text())
		}
		if n := len(list); n > 0 && list[n-1].File == file && list[n-1].Offset+list[n-1].Length == offset {
			list[n-1].Length += snapshot.PageSize
			continue
		}
		list = append(list, snapshot.Range{File: file, Offset: offset, Length: snapshot.PageSize})
	}
	return list, lines.Err()
}
