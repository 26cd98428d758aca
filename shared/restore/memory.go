package restore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

// lazyPays is the least memory, in bytes, that MemoryAuto restores lazily. Less is there as fast, and then nothing can go
// wrong with it any more.
const lazyPays = 16 << 20

// lazy decides how the clone's memory comes back. Where the last clone of the snapshot was lost, this one runs once it has all of
// it: what was missing is missed before that, and the policy decides.
func (s *start) lazy(manifest digest.Digest, cfg snapshot.Config) (bool, error) {
	loss, err := runDir.Loss(manifest)
	if err != nil {
		return false, err
	}
	if loss != "" {
		s.begin("memory")("eager, since the last clone of this snapshot was lost: " + loss)
		return false, nil
	}
	switch s.opts.Memory {
	case MemoryEager:
		return false, nil
	case MemoryLazy:
		if err := lazyWorks(cfg); err != nil {
			return false, fmt.Errorf("memory = %q: %w: use %q or %q", s.opts.Memory, err, MemoryEager, MemoryAuto)
		}
		return true, nil
	default:
		if cfg.Sizes.Memory < lazyPays {
			return false, nil
		}
		why := lazyWorks(cfg)
		if why != nil {
			s.begin("memory")("eager: " + why.Error())
		}
		return why == nil, nil
	}
}

// lazyWorks returns why a snapshot can't be restored lazily on this host.
func lazyWorks(cfg snapshot.Config) error {
	if cfg.NoLazy != "" {
		return fmt.Errorf("the build found that it can't be restored lazily: %s", cfg.NoLazy)
	}
	return pages.Works(cfg.LargestMapping, cfg.GuardRegions)
}

// found is the snapshot that a container is restored from.
type found struct {
	store.Entry
	cfg  snapshot.Config
	lazy bool // its memory comes back lazily
}

// fetchAndCreate looks for the snapshot and fetches what the restore needs of it, and lets the engine create the container
// meanwhile. When it fails it returns what it has got all the same.
func (s *start) fetchAndCreate(ctx context.Context, place *place) (f found, entry *cache.Entry, id string, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if f, err = s.find(ctx); err != nil {
			return err
		}
		entry, err = s.fetch(ctx, f, place)
		return err
	})
	g.Go(func() (err error) {
		end := s.begin("create")
		done := s.opts.Timeline.Begin(timeline.Engine, createCall)
		if id, err = s.eng.Create(ctx, s.marked(), engine.RuntimeName); err != nil {
			return err
		}
		done("")
		end("")
		return nil
	})
	err = g.Wait()
	return f, entry, id, err
}

func (s *start) find(ctx context.Context) (f found, err error) {
	end := s.begin("resolve")
	if f.Entry, f.cfg, err = s.lookUp(ctx); err != nil {
		return f, err
	}
	if f.lazy, err = s.lazy(f.Manifest.Digest, f.cfg); err != nil {
		return f, err
	}
	end(f.Name)
	return f, nil
}

// fetch has others have their turn while it waits for a store.
func (s *start) fetch(ctx context.Context, f found, place *place) (entry *cache.Entry, err error) {
	end := s.begin("fetch")
	if _, there := s.opts.Cache.Config(f.Manifest.Digest); !there {
		place.leave()
		defer func() {
			if err == nil {
				err = place.comeBack(ctx)
			}
		}()
	}
	if f.lazy {
		entry, err = s.opts.Cache.Begin(ctx, s.opts.Store, f.Manifest)
	} else {
		entry, err = s.opts.Cache.Get(ctx, s.opts.Store, f.Manifest)
	}
	switch {
	case err != nil:
		return nil, err
	case entry.Warm:
		end("from the cache")
	case entry.Filling != nil:
		end("begun, from " + s.opts.Store.URL())
	default:
		end("from " + s.opts.Store.URL())
	}
	return entry, nil
}

// fetchAhead fetches what the app needs first, until the returned function is called: the clone's page server will go on
// with it, but exists only later. The entry is released when both are done.
func (s *start) fetchAhead(ctx context.Context, entry *cache.Entry) (stop func()) {
	if entry.Filling == nil {
		return entry.Release
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		defer entry.Release()
		_ = entry.Filling.FetchFirst(ctx) // the page server will meet what is wrong, and say so
	}()
	return func() { cancel(errors.New("the clone runs")) } // a frame that is under way is finished
}

// source is where the clone's page server finds the snapshot.
func (s *start) source(manifest ocispec.Descriptor, clone cache.Clone) *ociruntime.Source {
	return &ociruntime.Source{
		State:    clone.Filling,
		Cache:    s.opts.Cache.Dir(),
		Manifest: manifest.Digest.String(),
		Store:    store.Address(s.opts.Store),
		Env:      store.Environ(),
	}
}
