package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

// runFlags are the flags of run that are not docker run's.
type runFlags struct {
	container containerFlags

	name     string
	policy   string
	ref      string
	memory   string
	timeout  time.Duration
	timeline timelineFlag
	until    string
	hooks    hookFlags

	probe build.Probe // of until
}

func runCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run IMAGE|REF [flags] [-- COMMAND [ARGUMENT…]]",
		Short: "Start a container from its snapshot, or cold if there is none that fits",
		Long: `Starts a container in the background, as docker run -d does, and prints its id. With an image, the snapshot is the
one of this image with this very command and configuration; without one, or if it can't be used here, the container
boots cold, and the reason is printed (--policy). With the ref or digest of a snapshot, the container gets the image,
the command, the user and the security options that the snapshot was built with; environment and mounts must be
given as they were when it was built.

Every container, hot or cold, finds in /.criu-docker what it is: a generation that no other start has, its hostname, 64 random
bytes. A clone learns that it is one from the hooks that its snapshot was built with (see build), or from --after-restore.

With --restore-memory lazy, a container is killed if its memory can't be completed any more, because the store has gone away or
its page server was killed: it can't run on half of its memory. /run/criu-docker/containers/ID/report.json then says why ("lost"),
until what belongs to the container is removed.

With --timeline, every step of the start is shown, of the engine, the runtime and CRIU too: as a table on standard
error, or in a file. The start ends with the answer that --until waits for, if given, with a probe as for build.

With --json it prints {"container", "start": "hot" or "cold", "reason", "ref", "steps", "runtime_steps", "timeline"}; a
step is {"step", "message", "seconds"}, and the timeline, as in a .json file, consists of {"name", "track", "note",
"start", "elapsed_ns"}. Containers that were started from snapshots are removed with docker rm, and what
belongs to them with criu-docker cache prune.`,
		Example: `  criu-docker run redmine:5 -p 3000:3000 --name web
  criu-docker run 3f9a0c12/77aa --policy always -P --timeline
  criu-docker run redmine:5 --timeline=start.svg --until http://:3000/login`,
		Args: usage(imageAndCommand),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd.Context(), f, args[0], args[1:])
		},
	}
	set := cmd.Flags()
	set.SortFlags = false
	set.StringVar(&f.name, "name", "", "name of the container")
	set.StringVar(&f.policy, "policy", string(restore.PolicyIfPresent), "never: boot cold; if_present: from a snapshot if one fits; always: fail where if_present boots cold")
	set.StringVar(&f.ref, "ref", "", "start IMAGE from this snapshot rather than from the one that is looked up")
	set.StringVar(&f.memory, "restore-memory", string(restore.MemoryAuto), "lazy: the app runs while its memory is still being filled in; eager: once all of it is there; auto: what is faster")
	set.DurationVar(&f.timeout, "timeout", restore.DefaultTimeout, "how long looking up, fetching and restoring a snapshot may take")
	set.StringArrayVar(&f.hooks.afterRestore, "after-restore", nil, "hook to run in place of those of the snapshot, or none; can be repeated")
	set.DurationVar(&f.hooks.timeout, "hook-timeout", hook.DefaultTimeout, "how long each of these hooks may take")
	set.Var(&f.timeline, "timeline", "show when every step of the start began and how long it took: here, or in FILE as a waterfall (.svg, .html) or as data (.json)")
	set.Lookup("timeline").NoOptDefVal = onTerminal
	set.StringVar(&f.until, "until", "", "wait, for up to 5 minutes, until the container answers this probe")
	f.container.add(set)
	return cmd
}

func (a *app) run(ctx context.Context, f runFlags, target string, command []string) error {
	opts, err := f.options(target, command)
	if err != nil {
		return err
	}
	if f.timeline != "" || a.json {
		opts.Timeline = &timeline.Recorder{}
	}
	done := opts.Timeline.Begin(timeline.Own, "connect")
	eng, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer eng.Close()
	done("")
	done = opts.Timeline.Begin(timeline.Own, "open store and cache")
	if opts.Policy != restore.PolicyNever {
		if opts.Store, err = a.openStore(ctx); err != nil {
			return err
		}
		defer opts.Store.Close()
		if opts.Cache, err = a.openCache(); err != nil {
			return err
		}
		if err := f.takeRef(ctx, eng, &opts, target); err != nil {
			return err
		}
	}
	done("")
	opts.Spec.OnWarning = func(w string) { fmt.Fprintln(a.stderr, "warning: the engine:", w) }
	result, err := restore.Run(ctx, eng, opts)
	if err == nil {
		return a.started(ctx, eng, f, target, result, opts.Timeline)
	}
	if opts.Store != nil && opts.Ref == "" && looksLikeRef(target) {
		if _, inspectErr := eng.Client.ImageInspect(ctx, target); engine.IsNotFound(inspectErr) {
			err = noSnapshotError{fmt.Errorf("%s is neither a snapshot in %s nor an image: %w", target, opts.Store.URL(), err)}
		}
	}
	return err
}

func (f *runFlags) options(target string, command []string) (opts restore.Options, err error) {
	opts = restore.Options{Policy: restore.Policy(f.policy), Ref: f.ref, Memory: restore.Memory(f.memory), Timeout: f.timeout}
	switch opts.Policy {
	case restore.PolicyNever, restore.PolicyIfPresent, restore.PolicyAlways:
	default:
		return opts, usageError{fmt.Errorf("--policy %q: want %s, %s or %s", f.policy,
			restore.PolicyNever, restore.PolicyIfPresent, restore.PolicyAlways)}
	}
	switch opts.Memory {
	case restore.MemoryLazy, restore.MemoryEager, restore.MemoryAuto:
	default:
		return opts, usageError{fmt.Errorf("--restore-memory %q: want %s, %s or %s (the container's limit is --memory)", f.memory,
			restore.MemoryLazy, restore.MemoryEager, restore.MemoryAuto)}
	}
	switch {
	case f.timeout <= 0:
		return opts, usageError{fmt.Errorf("--timeout %s: want a time above 0, such as 1m", f.timeout)}
	case f.ref != "" && opts.Policy == restore.PolicyNever:
		return opts, usageError{fmt.Errorf("--ref %s: with --policy never no snapshot is used: give another policy, or no ref", f.ref)}
	}
	if opts.AfterRestore, err = f.hooks.override(); err != nil {
		return opts, usageError{err}
	}
	if f.until != "" {
		if f.probe, err = parseProbe(f.until); err != nil {
			return opts, usageError{fmt.Errorf("--until: %w", err)}
		}
		f.probe.Interval = untilInterval
	}
	opts.Spec, err = f.container.spec(target, command)
	opts.Spec.Name = f.name
	return opts, err
}

// takeRef lets a snapshot complete the request if the operand names one rather than an image.
func (f *runFlags) takeRef(ctx context.Context, eng *engine.Engine, opts *restore.Options, target string) error {
	if f.ref != "" {
		return nil
	}
	found, err := findRef(ctx, opts.Store, target)
	if err != nil || found == nil {
		return err
	}
	opts.Ref = found.entry.Name
	return f.container.fill(ctx, eng, &opts.Spec, found.config)
}

// named is a snapshot that a command line names.
type named struct {
	entry  store.Entry
	config snapshot.Config
}

// findRef returns the snapshot that an operand names, or nil if it is to be taken for an image.
func findRef(ctx context.Context, s store.Store, operand string) (*named, error) {
	if !looksLikeRef(operand) {
		return nil, nil
	}
	entry, err := store.Resolve(ctx, s, operand)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrNoStore) {
		return nil, nil // images may have such names too; whether this one does, the engine will tell
	}
	if err != nil {
		return nil, err
	}
	_, config, err := snapshot.Load(ctx, s, entry.Manifest)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", entry.Name, err)
	}
	return &named{entry, config}, nil
}

// looksLikeRef reports whether an operand can be a ref or digest: hexadecimal digits, with the ref's slashes.
func looksLikeRef(operand string) bool {
	parts := strings.Split(strings.TrimPrefix(operand, "sha256:"), "/")
	return len(parts) <= 3 && !slices.ContainsFunc(parts[:min(2, len(parts))], func(part string) bool {
		return part == "" || strings.Trim(part, "0123456789abcdef") != ""
	})
}

// startedResult is what run --json prints.
type startedResult struct {
	Container string          `json:"container"`
	Start     restore.Start   `json:"start"`
	Reason    string          `json:"reason,omitempty"`
	Ref       string          `json:"ref,omitempty"`
	Steps     []timelineStep  `json:"steps"`
	Runtime   []timelineStep  `json:"runtime_steps,omitempty"`
	Timeline  []timeline.Span `json:"timeline"`
}

type timelineStep struct {
	Step    string  `json:"step"`
	Message string  `json:"message,omitempty"`
	Seconds float64 `json:"seconds"`
}

// started tells what was started and, once it answers, how.
func (a *app) started(ctx context.Context, eng *engine.Engine, f runFlags, target string, r *restore.Result, t *timeline.Recorder) error {
	if !a.json {
		if r.Start == restore.Cold && r.Reason != "" {
			fmt.Fprintln(a.stderr, "cold boot: "+r.Reason)
		}
		fmt.Fprintln(a.stdout, r.ContainerID)
	}
	var err error
	if f.until != "" {
		err = untilAnswer(ctx, eng, r.ContainerID, f.probe, f.until, t)
	}
	restore.Trace(t, r)
	spans := t.Spans()
	if a.json {
		err = errors.Join(err, a.printJSON(newStartedResult(r, spans)))
	}
	return errors.Join(err, a.writeTimeline(f.timeline, target, r.Start, spans))
}

func newStartedResult(r *restore.Result, spans []timeline.Span) startedResult {
	out := startedResult{Container: r.ContainerID, Start: r.Start, Reason: r.Reason, Ref: r.Ref, Timeline: spans}
	for _, s := range r.Steps {
		out.Steps = append(out.Steps, timelineStep{s.Step, s.Message, s.Elapsed.Seconds()})
	}
	for _, s := range r.Report.Steps {
		out.Runtime = append(out.Runtime, timelineStep{Step: s.Name, Seconds: s.Elapsed.Seconds()})
	}
	return out
}
