package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

// onTerminal is what --timeline means without a file. The help shows it: --timeline[=FILE].
const onTerminal = "FILE"

// untilInterval is how often a started container is asked whether it answers: so often that it does not show in the result.
const untilInterval = 2 * time.Millisecond

// timelineFlag is the file of --timeline, onTerminal, or "".
type timelineFlag string

func (f *timelineFlag) String() string { return string(*f) }
func (f *timelineFlag) Type() string   { return "" }

func (f *timelineFlag) Set(text string) error {
	if text != onTerminal && timelineFormats[filepath.Ext(text)] == nil {
		return errors.New("want a name that ends in .svg, .html or .json, or no file for a table")
	}
	if dir := filepath.Dir(text); !isDirectory(dir) { // better now than when the container runs
		return fmt.Errorf("there is no directory %s: make it, or name a file elsewhere", dir)
	}
	*f = timelineFlag(text)
	return nil
}

func isDirectory(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

var timelineFormats = map[string]func(w io.Writer, title string, spans []timeline.Span) error{
	".svg":  timeline.SVG,
	".html": timeline.HTML,
	".json": func(w io.Writer, _ string, spans []timeline.Span) error { return timeline.JSON(w, spans) },
}

// untilAnswer waits until a started container answers, and adds that to the timeline.
func untilAnswer(ctx context.Context, eng *engine.Engine, id string, probe build.Probe, text string, t *timeline.Recorder) error {
	end := t.Begin(timeline.App, "first answer")
	if err := probe.Wait(ctx, eng, id); err != nil {
		end("none to " + text)
		if c, ierr := eng.Client.ContainerInspect(ctx, id); ierr == nil {
			if why := restore.ExplainEnd(ctx, id, c.State); why != "" {
				err = fmt.Errorf("%w: %s", err, why)
			}
		}
		return fmt.Errorf("--until %q: container %.12s was started: %w", text, id, err)
	}
	end(text)
	return nil
}

// writeTimeline shows the timeline of a start, or writes it to a file: whole, or not at all.
func (a *app) writeTimeline(to timelineFlag, target string, start restore.Start, spans []timeline.Span) error {
	switch to {
	case "":
		return nil
	case onTerminal:
		return timeline.Text(a.stderr, spans)
	}
	var b bytes.Buffer
	if err := timelineFormats[filepath.Ext(string(to))](&b, timelineTitle(target, start, spans), spans); err != nil {
		return fmt.Errorf("--timeline %q: %w", to, err)
	}
	if err := renameio.WriteFile(string(to), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("--timeline %q: %w", to, err)
	}
	return nil
}

func timelineTitle(target string, start restore.Start, spans []timeline.Span) string {
	var first, last time.Time
	for i, s := range spans {
		if i == 0 {
			first = s.Start
		}
		if s.End().After(last) {
			last = s.End()
		}
	}
	return fmt.Sprintf("%s, %s: %s", target, start, seconds(last.Sub(first)))
}
