package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

const runDir = ociruntime.RunDir(ociruntime.DefaultRunDir)

// cleanupTimeout bounds the removal of a container that did not start, which goes on when the caller's context has ended.
const cleanupTimeout = 30 * time.Second

// Run creates and starts a container. The image must be known to the engine. When it fails nothing is left behind.
// With PolicyAlways the error says why the container could not be restored: ErrNoSnapshot, *Misfit, *criu.Failure, or
// one of the store's.
func Run(ctx context.Context, eng *engine.Engine, opts Options) (*Result, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	done := opts.Timeline.Begin(timeline.Engine, "image")
	img, err := eng.EnsureImage(ctx, opts.Spec.Config.Image, engine.PullOptions{})
	if err != nil {
		return nil, err
	}
	done("")
	s := &start{eng: eng, opts: opts, img: img}
	if opts.Policy == PolicyNever {
		return s.cold(ctx, "the policy is never")
	}
	abandon := opts.Timeline.Begin(timeline.Own, "attempt to restore")
	result, err := s.hot(ctx)
	if err == nil {
		return result, nil
	}
	abandon("failed")
	if opts.Policy == PolicyAlways || ctx.Err() != nil {
		return nil, fmt.Errorf("start from a snapshot: %w", err)
	}
	return s.cold(ctx, err.Error())
}

// start is one container's way into life.
type start struct {
	eng  *engine.Engine
	opts Options
	img  image.InspectResponse

	queues ociruntime.RunDir // where starts wait for their turn; "" means runDir

	mu    sync.Mutex
	steps []Event
}

func (s *start) hot(ctx context.Context) (*Result, error) {
	ctx, place, err := s.takePlace(ctx)
	if err != nil {
		return nil, fmt.Errorf("waiting for other starts: %w", because(ctx, err))
	}
	defer place.end()
	result, err := s.restore(ctx, place)
	return result, because(ctx, err)
}

// hooks are those that the clone is started with.
func (s *start) hooks(cfg snapshot.Config) ([]hook.Hook, error) {
	if s.opts.AfterRestore != nil {
		return s.opts.AfterRestore, nil
	}
	if err := hook.ValidateAll(cfg.Hooks.AfterRestore); err != nil { // it comes from a store
		return nil, fmt.Errorf("the snapshot's after_restore%w", err)
	}
	return cfg.Hooks.AfterRestore, nil
}

func (s *start) timeout() time.Duration {
	if s.opts.Timeout == 0 {
		return DefaultTimeout
	}
	return s.opts.Timeout
}

func (s *start) restore(ctx context.Context, place *place) (_ *Result, err error) {
	found, cached, id, err := s.fetchAndCreate(ctx, place)
	if cached != nil {
		defer s.fetchAhead(ctx, cached)()
	}
	if id != "" {
		defer func() {
			if err != nil {
				err = errors.Join(err, s.undo(ctx, id))
			}
		}()
	}
	if err != nil {
		return nil, err
	}
	done := s.opts.Timeline.Begin(timeline.Own, "clone directory")
	hostname, err := s.hostname(ctx, id)
	if err != nil {
		return nil, err
	}
	clone, err := s.opts.Cache.Clone(cached, id, hostname)
	if err != nil {
		return nil, err
	}
	done("")
	hooks, err := s.hooks(found.cfg)
	if err != nil {
		return nil, err
	}
	done = s.opts.Timeline.Begin(timeline.Own, "request")
	request := ociruntime.Request{
		Kind:          ociruntime.KindClone,
		Engine:        s.eng.Client.DaemonHost(),
		CheckpointDir: clone.CheckpointDir,
		RootfsDelta:   clone.RootfsDelta,
		MountFiles:    clone.MountFiles,
		Lazy:          found.lazy,
		ColdBoot:      s.opts.Policy == PolicyIfPresent,
		Snapshot:      found.Manifest.Digest.String(),
		Frozen:        found.cfg.Created,
		AfterRestore:  hooks,
		Host:          found.cfg.Host.Host,
		NetworkFirst:  found.cfg.NetworkFirst(),
		Bound:         found.cfg.BoundSockets(),
		Addresses:     found.cfg.Addresses,
		OOMScore:      found.cfg.OOMScore,
		Options:       found.cfg.Checkpoint,
		Timeout:       s.timeout(), // of a restart
	}
	if cached.Filling != nil {
		request.Source = s.source(found.Manifest, clone)
	}
	if err := runDir.WriteRequest(id, request); err != nil {
		return nil, err
	}
	if err := runDir.Attend(id, ociruntime.Attendance{Timeout: max(place.remaining(), time.Second)}); err != nil {
		return nil, err
	}
	done("")

	end := s.begin("restore")
	done = s.opts.Timeline.Begin(timeline.Engine, startCall)
	if err := s.eng.Start(ctx, id); err != nil {
		return nil, explain(id, err)
	}
	done("")
	end("")
	done = s.opts.Timeline.Begin(timeline.Own, "report")
	if !found.lazy {
		if err := runDir.SettleLoss(found.Manifest.Digest); err != nil {
			return nil, err
		}
	}
	report, err := runDir.ReadReport(id)
	if err != nil {
		return nil, err
	}
	done("")
	return &Result{ContainerID: id, Start: Hot, Ref: found.Name, Steps: s.steps, Report: report}, nil
}

// lookUpTimeout bounds the look-up of a snapshot where a cold boot is the alternative: it takes far less than a second, and
// a store that is down is not worth a longer wait.
const lookUpTimeout = 5 * time.Second

func (s *start) lookUp(ctx context.Context) (store.Entry, snapshot.Config, error) {
	if s.opts.Policy == PolicyIfPresent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, lookUpTimeout, fmt.Errorf("%s did not answer within %s", s.opts.Store.URL(), lookUpTimeout))
		defer cancel()
	}
	entry, cfg, err := s.resolve(ctx)
	return entry, cfg, because(ctx, err)
}

// because puts the reason for which ctx has ended before err, which tells what was under way, unless it is in there.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// resolve finds the snapshot and checks that it fits what is asked for and this host.
func (s *start) resolve(ctx context.Context) (store.Entry, snapshot.Config, error) {
	run, err := engine.Effective(s.opts.Spec, s.img)
	if err != nil {
		return store.Entry{}, snapshot.Config{}, err
	}
	host, err := criu.HostInfo(ctx)
	if err != nil {
		return store.Entry{}, snapshot.Config{}, fmt.Errorf("this host: %w", err)
	}
	want := engine.Ref(s.img, run)
	var entry store.Entry
	if s.opts.Ref != "" {
		if entry, err = store.Resolve(ctx, s.opts.Store, s.opts.Ref); errors.Is(err, store.ErrNotFound) {
			err = fmt.Errorf("%w: %w", ErrNoSnapshot, err)
		}
	} else {
		entry, err = s.opts.Store.GetRef(ctx, want.String())
		if errors.Is(err, store.ErrNotFound) {
			entry, err = nearest(ctx, s.opts.Store, want, engine.ImageStore(s.img))
		}
	}
	if err != nil {
		return store.Entry{}, snapshot.Config{}, err
	}
	// The config is small and says whether it is worth fetching the rest.
	cfg, ok := s.opts.Cache.Config(entry.Manifest.Digest)
	if !ok {
		if _, cfg, err = snapshot.Load(ctx, s.opts.Store, entry.Manifest); err != nil {
			return store.Entry{}, snapshot.Config{}, fmt.Errorf("snapshot %s in %s: %w", entry.Name, s.opts.Store.URL(), err)
		}
	}
	if err := Fit(cfg, s.img, run, host); err != nil {
		return store.Entry{}, snapshot.Config{}, err
	}
	return entry, cfg, nil
}

// nearest returns some snapshot of the image that is started otherwise, so that its misfit can be named.
func nearest(ctx context.Context, s store.Store, want snapshot.Ref, imageStore string) (store.Entry, error) {
	others, err := s.ListRefs(ctx, want.Image.Encoded()+"/")
	if err != nil && (len(others) == 0 || !errors.Is(err, store.ErrCorrupt)) {
		return store.Entry{}, err
	}
	if len(others) == 0 {
		return store.Entry{}, fmt.Errorf("%w: %s has none of image %.19s (its id in this engine's image store, %s)", ErrNoSnapshot, s.URL(), want.Image, imageStore)
	}
	newest := others[0]
	for _, e := range others {
		if e.Updated.After(newest.Updated) {
			newest = e
		}
	}
	return newest, nil
}

// hostname is what the engine will call the container; "" if that has no UTS namespace of its own.
func (s *start) hostname(ctx context.Context, id string) (string, error) {
	host := s.opts.Spec.Host
	if host == nil {
		host = &container.HostConfig{}
	}
	switch {
	case host.UTSMode.IsHost():
		return "", nil
	case s.opts.Spec.Config.Hostname != "":
		return s.opts.Spec.Config.Hostname, nil
	case host.NetworkMode.IsContainer():
		joined, err := s.eng.Client.ContainerInspect(ctx, host.NetworkMode.ConnectedContainer())
		if err != nil {
			return "", fmt.Errorf("network_mode = %q: %w", host.NetworkMode, err)
		}
		return joined.Config.Hostname, nil
	case host.NetworkMode.IsHost():
		return os.Hostname()
	default:
		const shortID = 12
		return id[:shortID], nil
	}
}

// undo removes a container that did not start, also when ctx has ended.
func (s *start) undo(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return Remove(ctx, s.eng, s.opts.Cache, id)
}

// explain prefers what CRIU or the runtime said over what the engine made of it.
func explain(id string, err error) error {
	report, rerr := runDir.ReadReport(id)
	switch {
	case rerr != nil:
		return err
	case report.Failure != nil:
		return fmt.Errorf("restore: %w", report.Failure)
	case report.Error != "":
		return fmt.Errorf("restore: %s", report.Error)
	default:
		return err
	}
}

func (s *start) begin(step string) (end func(message string)) {
	began := time.Now()
	return func(message string) {
		e := Event{Step: step, Message: message, Start: began, Elapsed: time.Since(began)}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.steps = append(s.steps, e)
		s.opts.Timeline.Add(timeline.Span{Name: step, Track: timeline.Own, Note: message, Start: began, Elapsed: e.Elapsed})
		if s.opts.OnEvent != nil {
			s.opts.OnEvent(e)
		}
	}
}

func (o Options) validate() error {
	if o.Spec.Config == nil || o.Spec.Config.Image == "" {
		return errors.New(`image = "": name the image to start`)
	}
	switch o.Memory {
	case "", MemoryAuto, MemoryLazy, MemoryEager:
	default:
		return fmt.Errorf("memory = %q: want %s, %s or %s", o.Memory, MemoryLazy, MemoryEager, MemoryAuto)
	}
	if err := hook.ValidateAll(o.AfterRestore); err != nil {
		return fmt.Errorf("after_restore%w", err)
	}
	switch o.Policy {
	case PolicyNever:
		return nil
	case PolicyIfPresent, PolicyAlways:
	default:
		return fmt.Errorf("policy = %q: want %s, %s or %s", o.Policy, PolicyNever, PolicyIfPresent, PolicyAlways)
	}
	if o.Store == nil || o.Cache == nil {
		return fmt.Errorf("policy = %q needs a store and a cache", o.Policy)
	}
	return nil
}
