package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// cleanupTimeout bounds the removal of a donor, which goes on when the build's own context has ended, and the sweep before a
// build: an engine that hangs over the container of one build must not keep the others waiting.
const cleanupTimeout = 30 * time.Second

// Snapshot builds one snapshot and publishes it. The donor is gone when it returns, whatever happened; after a SIGKILL
// the next build removes it. Errors: ErrImageMoved, ErrNotReady, owned.ErrForeign (Options.Dir), *criu.Failure, and those of the
// engine and the store.
func Snapshot(ctx context.Context, eng *engine.Engine, opts Options) (*Result, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Dir == "" {
		opts.Dir = DefaultDir
	}
	spec, err := donorSpec(opts, "")
	if err != nil {
		return nil, err
	}

	p := &progress{onEvent: opts.OnEvent}
	end := p.begin("image")
	img, run, ref, err := resolve(ctx, eng, opts, spec)
	if err != nil {
		return nil, err
	}
	end(ref.Image.String())
	published, err := opts.Store.GetRef(ctx, ref.String())
	switch {
	case err == nil && !opts.Force:
		_, cfg, err := snapshot.Load(ctx, opts.Store, published.Manifest)
		if err != nil {
			return nil, fmt.Errorf("snapshot %s in %s: %w", ref, opts.Store.URL(), err)
		}
		result := &Result{Ref: ref, Manifest: published.Manifest, Config: cfg, Existed: true}
		if cfg.Host.CPUBaseline != opts.CPU { // it is not part of the ref
			result.Warnings = append(result.Warnings, fmt.Sprintf("the snapshot that the store has was built with cpu = %q, and %q was asked for: "+
				"build it anew (--force)", cfg.Host.CPUBaseline, opts.CPU))
		}
		return result, nil
	case err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrNoStore):
		return nil, err
	}
	return makeSnapshot(ctx, eng, opts, resolved{ref: ref, image: img, run: run}, p)
}

// resolved is what is built.
type resolved struct {
	ref   snapshot.Ref
	image image.InspectResponse
	run   snapshot.RunConfig
}

// makeSnapshot builds what the store lacks. Only from here on the build directory is touched.
func makeSnapshot(ctx context.Context, eng *engine.Engine, opts Options, t resolved, p *progress) (result *Result, err error) {
	parent, err := kind.Make(opts.Dir)
	if err != nil {
		return nil, err
	}
	p.sweep(ctx, eng, opts.Dir)
	work, err := newWorkDir(parent)
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		cleanup := work.remove(ctx, eng)
		switch {
		case err != nil:
			err = errors.Join(err, cleanup)
		case cleanup != nil: // the snapshot is published, and the caller must get to know it
			p.warn("the donor could not be removed, the next build will try again: %v", cleanup)
		}
		if result != nil {
			result.Warnings = p.warnings
		}
	}()
	spec, err := donorSpec(opts, work.dir)
	if err != nil {
		return nil, err
	}

	if err := checkBaseline(ctx, opts.CPU); err != nil {
		return nil, err
	}
	if err := holdTo(opts.CPU, spec.Config, t.image); err != nil {
		return nil, err
	}

	place, err := awaitTurn(ctx, p)
	if err != nil {
		return nil, err
	}
	defer place.End()
	spec.OnWarning = func(w string) { p.warn("the engine: %s", w) }
	d := &donor{eng: eng, work: work, opts: opts, progress: p}
	if err := d.boot(ctx, spec); err != nil {
		return nil, err
	}
	cfg := snapshot.Config{
		Created:    time.Now().UTC().Truncate(time.Second),
		Image:      describeImage(opts.Spec.Config.Image, t.image),
		Run:        t.run,
		OOMScore:   spec.Host.OomScoreAdj,
		Checkpoint: opts.Checkpoint,
		Hooks:      opts.Hooks,
	}
	src, err := d.freeze(ctx, cfg)
	if err != nil {
		return nil, work.explain(err)
	}
	if !opts.NoProfile && opts.Checkpoint.TCP != criu.TCPEstablished { // whose connections are the donor's
		if err := d.prove(ctx, spec, &src); err != nil {
			return nil, err
		}
	}
	if src.First, err = eagerFirst(src); err != nil {
		return nil, err
	}
	manifest, cfg, err := publish(ctx, opts.Store, t.ref, opts.Force, src, p)
	if err != nil {
		return nil, err
	}
	return &Result{Ref: t.ref, Manifest: manifest, Config: cfg}, nil
}

// Resolve returns the ref that Snapshot would publish to, without booting anything. Of opts it needs the image and how
// it is started; a store, a probe and checkpoint options need not be known yet.
func Resolve(ctx context.Context, eng *engine.Engine, opts Options) (Target, error) {
	if err := opts.validateImage(); err != nil {
		return Target{}, err
	}
	spec, err := donorSpec(opts, "")
	if err != nil {
		return Target{}, err
	}
	img, _, ref, err := resolve(ctx, eng, opts, spec)
	if err != nil {
		return Target{}, err
	}
	target := Target{Ref: ref}
	if img.Config != nil {
		target.ImagePorts = slices.Sorted(maps.Keys(img.Config.ExposedPorts))
	}
	return target, nil
}

// Target is what a build would publish.
type Target struct {
	Ref        snapshot.Ref
	ImagePorts []string // that the image exposes: "80/tcp", sorted
}

// ErrDescription is returned for a container that can't be described, whatever its image.
var ErrDescription = errors.New("the container's description can't be used")

func resolve(ctx context.Context, eng *engine.Engine, opts Options, spec engine.Spec) (image.InspectResponse, snapshot.RunConfig, snapshot.Ref, error) {
	fail := func(err error) (image.InspectResponse, snapshot.RunConfig, snapshot.Ref, error) {
		return image.InspectResponse{}, snapshot.RunConfig{}, snapshot.Ref{}, err
	}
	img, err := eng.EnsureImage(ctx, spec.Config.Image, opts.Pull)
	if err != nil {
		return fail(err)
	}
	if opts.ImageID != "" && img.ID != opts.ImageID.String() {
		return fail(fmt.Errorf("image %q: %w: it is %s, and %s was asked for", spec.Config.Image, ErrImageMoved, img.ID, opts.ImageID))
	}
	run, err := engine.Effective(spec, img)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrDescription, err))
	}
	if err := holdTo(opts.CPU, &container.Config{Env: spec.Config.Env}, img); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrDescription, err))
	}
	if len(run.Args) == 0 {
		return fail(fmt.Errorf("image %q has no command: give one", spec.Config.Image))
	}
	return img, run, engine.Ref(img, run), nil
}

func describeImage(reference string, img image.InspectResponse) snapshot.Image {
	i := snapshot.Image{Reference: reference, ID: digest.Digest(img.ID), Arch: img.Architecture}
	if len(img.RepoDigests) > 0 {
		i.RepoDigest = img.RepoDigests[0]
	}
	return i
}

// eagerFirst puts what CRIU itself reads before what the app needs first.
func eagerFirst(src snapshot.Source) ([]snapshot.Range, error) {
	eager, err := criu.EagerPages(src.CheckpointDir)
	if err != nil {
		return nil, err
	}
	var list []snapshot.Range
	for _, r := range eager {
		list = append(list, snapshot.Range{File: r.File, Offset: r.Offset, Length: r.Length})
	}
	return append(list, src.First...), nil
}

func total(ranges []snapshot.Range) (n int64) {
	for _, r := range ranges {
		n += r.Length
	}
	return n
}

// publish puts a snapshot into the store. What a publication that fails has uploaded is removed again: nothing else would.
func publish(ctx context.Context, s store.Store, ref snapshot.Ref, force bool, src snapshot.Source, p *progress) (ocispec.Descriptor, snapshot.Config, error) {
	manifest, cfg, err := packAndName(ctx, s, ref, force, src, p)
	if err == nil {
		return manifest, cfg, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	swept, serr := s.Sweep(ctx)
	switch {
	case errors.Is(serr, store.ErrNoStore): // it did not get so far as to make one
	case serr != nil:
		err = fmt.Errorf("%w; what was uploaded stays in the store until `criu-docker store sweep`: %w", err, serr)
	case swept.Busy:
		err = fmt.Errorf("%w; what was uploaded stays in the store until `criu-docker store sweep`: another snapshot is being published", err)
	}
	return ocispec.Descriptor{}, snapshot.Config{}, fmt.Errorf("publish to %s: %w", s.URL(), err)
}

// packAndName packs src and names it. The ref comes last: until then the snapshot can't be found. With force it replaces what
// is there by then, which need not be what was there before the boot.
func packAndName(ctx context.Context, s store.Store, ref snapshot.Ref, force bool, src snapshot.Source, p *progress) (manifest ocispec.Descriptor, cfg snapshot.Config, err error) {
	done, err := s.Publishing(ctx)
	if err != nil {
		return manifest, cfg, err
	}
	defer done()

	end := p.begin("publish")
	src.Progress = p.bytes("publish")
	src.Config.Timings = p.timings
	if manifest, cfg, err = snapshot.Pack(ctx, s, src); err != nil {
		return manifest, cfg, err
	}
	previous := ""
	if force {
		switch now, err := s.GetRef(ctx, ref.String()); {
		case err == nil:
			previous = now.Generation
		case !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrNoStore):
			return manifest, cfg, err
		}
	}
	if err := s.PutRef(ctx, ref.String(), manifest, previous); err != nil {
		return manifest, cfg, err
	}
	end(ref.String())
	return manifest, cfg, nil
}

func (o Options) validate() error {
	if err := o.validateImage(); err != nil {
		return err
	}
	if o.Store == nil {
		return errors.New("store: name a store to publish to")
	}
	if o.Checkpoint == (criu.Options{}) {
		return errors.New("checkpoint: start from criu.DefaultOptions")
	}
	if err := o.Checkpoint.Validate(); err != nil {
		return err
	}
	if err := o.CPU.Validate(); err != nil {
		return err
	}
	if err := validateHooks(o.Hooks); err != nil {
		return err
	}
	return o.Ready.validate()
}

func (o Options) validateImage() error {
	if o.Spec.Config == nil || o.Spec.Config.Image == "" {
		return errors.New(`image = "": name the image to boot`)
	}
	if o.Spec.Config.Tty { // see ociruntime.errTerminal
		return errors.New("tty = true: a container with a terminal can't be restored from a snapshot: build and run it without one")
	}
	return nil
}

// progress turns steps into events and timings.
type progress struct {
	onEvent  func(Event)
	timings  []snapshot.Timing
	warnings []string
}

// warn notes what the user is to know although the build goes on.
func (p *progress) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(p.warnings, w) {
		p.warnings = append(p.warnings, w)
	}
}

// sweep removes what killed builds left. What it can't remove in time does not keep a build from starting.
func (p *progress) sweep(ctx context.Context, eng *engine.Engine, dir string) {
	ctx, cancel := context.WithTimeoutCause(ctx, cleanupTimeout, fmt.Errorf("not done within %s", cleanupTimeout))
	defer cancel()
	if err := Sweep(ctx, eng, dir); err != nil {
		p.warn("what earlier builds left could not be swept: %v", err)
	}
}

// begin reports the beginning of a step; the returned function reports its end.
func (p *progress) begin(step string) (end func(message string)) {
	start := time.Now()
	p.emit(Event{Step: step})
	return func(message string) {
		elapsed := time.Since(start)
		p.timings = append(p.timings, snapshot.Timing{Step: step, Elapsed: elapsed})
		p.emit(Event{Step: step, Message: message, Done: true, Elapsed: elapsed})
	}
}

// bytes returns a function that reports how far a step is.
func (p *progress) bytes(step string) func(done, total int64) {
	return func(done, total int64) { p.emit(Event{Step: step, Current: done, Total: total}) }
}

func (p *progress) emit(e Event) {
	if p.onEvent != nil {
		p.onEvent(e)
	}
}
