package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
)

// buildFlags are the flags of build that are not docker run's.
type buildFlags struct {
	container containerFlags

	ready        string
	readyStatus  int
	readyTimeout time.Duration
	warmup       []string
	warmupCount  int
	tcp          string
	fileLocks    bool
	extUnixSk    bool
	linkRemap    bool
	ghostLimit   string
	cpu          string
	nomad        bool
	force        bool
	noProfile    bool
	hooks        hookFlags
	pull         bool
	dir          string
}

func buildCommand(a *app) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build IMAGE --ready PROBE [flags] [-- COMMAND [ARGUMENT…]]",
		Short: "Boot a container, freeze it, and publish the snapshot",
		Long: `Boots IMAGE in a container (the donor) with the given command and flags, waits until the probe says that it is
ready, sends it warm-up requests, freezes it, restores it once to record which memory is needed first, and publishes
the result to the store. The donor is gone afterwards, whatever happened. If the store has a snapshot of this image
with this configuration already, nothing is built.

Apps size heaps and thread pools while they boot, and clones keep what the donor has computed: give the donor the limits of
production (--memory, --cpus, --cpuset-cpus). They don't tell snapshots apart, and each clone has its own.

Probes: http://:PORT/PATH (any 2xx or 3xx status), tcp://:PORT, exec:COMMAND (run by /bin/sh in the container, until
it exits 0), log:REGEX (until a line of output matches).

Hooks: signal:NAME (sent to the container's first process), exec:COMMAND (run by /bin/sh in the container; it has to exit with
0), http://:PORT/PATH (a POST request; any 2xx status is success). Those after the restore are part of the snapshot. They get
the identity that the container finds in /.criu-docker: exec as variables (CRIU_DOCKER_GENERATION, CRIU_DOCKER_RANDOM, …),
beside those that the clone was created with, and http as the request's body. Clients are refused until they are done. If a
hook fails, the start fails.

Standard output gets the ref alone. With --json it gets {"event": "begin" or "end", "step", "message", "bytes",
"seconds"} for every step, and at last {"event": "built" or "existed", "ref", "digest", "memory_bytes",
"packed_bytes", "seconds", "warnings"}.`,
		Example: `  criu-docker build redmine:5 --ready http://:3000/login --warmup "GET /projects"
  criu-docker build web:1.4 --ready log:Listening -e RAILS_ENV=production --store gs://snapshots/web -- puma -p 3000`,
		Args: usage(imageAndCommand),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.build(cmd.Context(), f, args[0], args[1:])
		},
	}
	set := cmd.Flags()
	set.SortFlags = false
	set.StringVar(&f.ready, "ready", "", "when the container is ready to be frozen (required)")
	set.IntVar(&f.readyStatus, "ready-status", 0, "status that an http probe wants; 0 for any 2xx or 3xx")
	set.DurationVar(&f.readyTimeout, "ready-timeout", 5*time.Minute, "how long the boot may take")
	set.StringArrayVar(&f.warmup, "warmup", nil, `request to send before freezing ("GET /path"); can be repeated`)
	set.IntVar(&f.warmupCount, "warmup-count", 1, "how often each of them is sent")
	set.StringArrayVar(&f.hooks.beforeFreeze, "before-freeze", nil, "hook that tells the donor, when it is ready and warm, that it is about to be frozen; can be repeated")
	set.StringArrayVar(&f.hooks.afterRestore, "after-restore", nil, "hook that tells each clone, at each of its starts, that it is one, before the start is done; can be repeated")
	set.DurationVar(&f.hooks.timeout, "hook-timeout", hook.DefaultTimeout, "how long each hook may take")
	set.StringVar(&f.tcp, "tcp", string(criu.TCPClose), "what becomes of open TCP connections in clones: close, so that the app reconnects, or established")
	set.BoolVar(&f.fileLocks, "file-locks", true, "keep file locks")
	set.BoolVar(&f.extUnixSk, "ext-unix-sk", false, "allow connections to unix sockets outside the container")
	set.BoolVar(&f.linkRemap, "link-remap", true, "allow open files that were deleted but have other names, as semaphores do")
	set.StringVar(&f.ghostLimit, "ghost-limit", "64MiB", "largest deleted but open file that is carried along")
	set.StringVar(&f.cpu, "cpu", "", "processor that glibc and OpenSSL are held to, so that clones can run on any that has as much (x86-64-v2|x86-64-v3|x86-64-v4)")
	set.BoolVar(&f.nomad, "nomad", false, "add the mounts and variables that Nomad gives every task")
	set.BoolVar(&f.force, "force", false, "build even if the store has this snapshot, and replace it")
	set.BoolVar(&f.noProfile, "no-profile", false, "publish the snapshot without first restoring it once, which shows that it can be restored and which memory the app needs first")
	set.BoolVar(&f.pull, "pull", false, "pull the image even if the engine has one of that name")
	set.StringVar(&f.dir, "build-dir", build.DefaultDir, "directory for unfinished work, with room for the app's memory; empty or new at first")
	f.container.add(set)
	return cmd
}

// imageAndCommand wants one operand before the dash, and takes what follows it for the command.
func imageAndCommand(cmd *cobra.Command, args []string) error {
	before := len(args)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		before = dash
	}
	switch {
	case before == 0:
		return errors.New("an image is missing")
	case before > 1:
		return fmt.Errorf("unexpected %q: the container's command comes after --", args[1])
	}
	return nil
}

func (a *app) build(ctx context.Context, f buildFlags, image string, command []string) error {
	opts, err := f.options(image, command)
	if err != nil {
		return err
	}
	if opts.Store, err = a.openStore(ctx); err != nil {
		return err
	}
	defer opts.Store.Close()
	eng, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer eng.Close()

	show := a.newProgress()
	opts.OnEvent = show.event
	result, err := build.Snapshot(ctx, eng, opts)
	show.close()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(newBuildResult(result))
	}
	for _, w := range result.Warnings {
		fmt.Fprintln(a.stderr, "warning:", w)
	}
	if result.Existed {
		fmt.Fprintln(a.stderr, "the store has this snapshot already (--force builds it anew)")
	}
	_, err = fmt.Fprintln(a.stdout, result.Ref)
	return err
}

func (f *buildFlags) options(image string, command []string) (opts build.Options, err error) {
	if opts.Spec, err = f.container.spec(image, command); err != nil {
		return opts, err
	}
	if f.container.tty {
		return opts, usageError{errors.New("--tty: a container with a terminal can't be restored from a snapshot: build and run it without one")}
	}
	if opts.Ready, err = f.probe(); err != nil {
		return opts, usageError{err}
	}
	if opts.Warmup, err = f.warmupRequests(opts.Ready); err != nil {
		return opts, usageError{err}
	}
	if opts.Checkpoint, err = f.checkpoint(); err != nil {
		return opts, usageError{err}
	}
	opts.CPU = criu.Baseline(f.cpu)
	if err := opts.CPU.Validate(); err != nil {
		return opts, usageError{fmt.Errorf("--%w (the number of processors is --cpus)", err)}
	}
	if opts.Hooks, err = f.hooks.hooks(); err != nil {
		return opts, usageError{err}
	}
	opts.NoProfile = f.noProfile
	opts.Nomad, opts.Force, opts.Dir, opts.Pull.Force = f.nomad, f.force, f.dir, f.pull
	return opts, nil
}

func (f *buildFlags) probe() (build.Probe, error) {
	if f.ready == "" {
		return build.Probe{}, errors.New("--ready is missing: say when the container is ready to be frozen, for example --ready http://:3000/login")
	}
	probe, err := parseProbe(f.ready)
	switch {
	case err != nil:
		return probe, fmt.Errorf("--ready: %w", err)
	case f.readyTimeout <= 0:
		return probe, fmt.Errorf("--ready-timeout %s: want a time above 0, such as 5m", f.readyTimeout)
	case f.readyStatus != 0 && probe.Type != build.ProbeHTTP:
		return probe, fmt.Errorf("--ready-status %d: only an http probe gets one: leave it out, or give --ready http://:PORT/PATH", f.readyStatus)
	case f.readyStatus != 0 && (f.readyStatus < 100 || f.readyStatus > 599):
		return probe, fmt.Errorf("--ready-status %d: want an HTTP status, 100 to 599, or 0 for any 2xx or 3xx", f.readyStatus)
	}
	probe.Timeout, probe.Status = f.readyTimeout, f.readyStatus
	return probe, nil
}

func (f *buildFlags) warmupRequests(ready build.Probe) ([]build.WarmupRequest, error) {
	if f.warmupCount < 1 {
		return nil, fmt.Errorf("--warmup-count %d: want 1 or more", f.warmupCount)
	}
	var requests []build.WarmupRequest
	for _, text := range f.warmup {
		request, err := parseWarmup(text)
		if err != nil {
			return nil, fmt.Errorf("--warmup: %w", err)
		}
		if request.Port == 0 && ready.Port == 0 {
			return nil, fmt.Errorf("--warmup %q: the probe has no port that it could go to: name one, as in \"GET :3000/login\"", text)
		}
		request.Count = f.warmupCount
		requests = append(requests, request)
	}
	return requests, nil
}

func (f *buildFlags) checkpoint() (criu.Options, error) {
	limit, err := units.RAMInBytes(f.ghostLimit)
	if err != nil {
		return criu.Options{}, fmt.Errorf("--ghost-limit %q: %w: want a size such as 64MiB", f.ghostLimit, err)
	}
	options := criu.Options{
		TCP: criu.TCP(f.tcp), FileLocks: f.fileLocks, ExtUnixSk: f.extUnixSk, LinkRemap: f.linkRemap, GhostLimit: limit,
	}
	if err := options.Validate(); err != nil {
		return options, fmt.Errorf("--%w", err) // options are called like their flags
	}
	return options, nil
}

// buildResult is the last line that build --json prints.
type buildResult struct {
	Event   string  `json:"event"` // "built" or "existed"
	Ref     string  `json:"ref"`
	Digest  string  `json:"digest"`
	Memory  int64   `json:"memory_bytes"`
	Packed  int64   `json:"packed_bytes"`
	Seconds float64 `json:"seconds"` // of all steps

	Warnings []string `json:"warnings,omitempty"` // one sentence each
}

func newBuildResult(r *build.Result) buildResult {
	out := buildResult{
		Event: "built", Ref: r.Ref.String(), Digest: r.Manifest.Digest.String(),
		Memory: r.Config.Sizes.Memory, Packed: r.Config.Sizes.Packed,
		Warnings: r.Warnings,
	}
	if r.Existed {
		out.Event = "existed"
	}
	for _, t := range r.Config.Timings {
		out.Seconds += t.Elapsed.Seconds()
	}
	return out
}
