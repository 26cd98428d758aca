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
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// profileTimeout bounds the restore and the requests of a profile.
const profileTimeout = time.Minute

// profile restores what was frozen once, lets it answer what the donor has answered, and returns the memory that it needed
// for that, in the order in which it did. It also shows that what will be published can be restored.
func (d *donor) profile(ctx context.Context, spec engine.Spec, src snapshot.Source) (_ []snapshot.Range, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, profileTimeout, fmt.Errorf("it was not done within %s", profileTimeout))
	defer cancel()
	id, err := d.eng.Create(ctx, spec, engine.RuntimeName)
	if err != nil {
		return nil, err
	}
	defer func() { // the build's sweep would, but the record must be complete
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		err = errors.Join(err, removeDonor(ctx, d.eng, id))
	}()
	record := d.work.record()
	err = runDir.WriteRequest(id, ociruntime.Request{
		Kind:          ociruntime.KindClone,
		Engine:        d.eng.Client.DaemonHost(),
		CheckpointDir: src.CheckpointDir,
		RootfsDelta:   src.RootfsTar,
		Lazy:          true,
		Record:        record,
		NetworkFirst:  src.Config.NetworkFirst(), // as starts do
		Bound:         src.Config.BoundSockets(),
		OOMScore:      src.Config.OOMScore,
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
		if report, rerr := runDir.ReadReport(id); rerr == nil && report.Failure != nil {
			return nil, report.Failure
		}
		return nil, err
	}
	if err := d.exercise(ctx, id); err != nil {
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
	addr, err := address(c)
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
