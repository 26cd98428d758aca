package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/store"
)

// publication is the way of one snapshot into the store.
type publication struct {
	published time.Duration // from the app's being ready until a clone can be started
	paused    time.Duration // the freezing, a part of that
	fresh     int64         // bytes of blobs that the store did not have
}

// publish boots an app and publishes a snapshot of it; one that is there is replaced.
func (b *bench) publish(ctx context.Context, a app, cpus int) (*build.Result, publication, error) {
	var ready, published time.Time
	counted := &countingStore{Store: b.store}
	result, err := build.Snapshot(ctx, b.eng, build.Options{
		Spec:       a.spec(filepath.Base(b.work), cpus),
		Ready:      build.Probe{Type: build.ProbeHTTP, Port: a.port, Path: a.path, Status: 200},
		Checkpoint: criu.DefaultOptions(),
		Store:      counted,
		Force:      true,
		Dir:        filepath.Join(b.work, "build"),
		OnEvent: func(e build.Event) {
			switch {
			case e.Step == "boot" && e.Done:
				ready = time.Now()
			case e.Step == "publish" && e.Done:
				published = time.Now()
			}
		},
	})
	if err != nil {
		return nil, publication{}, fmt.Errorf("snapshot of %s: %w", a.name, err)
	}
	p := publication{published: published.Sub(ready), fresh: counted.fresh.Load()}
	for _, t := range result.Config.Timings {
		if t.Step == "freeze" {
			p.paused = t.Elapsed
		}
	}
	return result, p, nil
}

// countingStore counts the bytes of blobs that it did not have.
type countingStore struct {
	store.Store
	fresh atomic.Int64
}

func (s *countingStore) PutBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (existed bool, err error) {
	existed, err = s.Store.PutBlob(ctx, desc, r)
	if err == nil && !existed {
		s.fresh.Add(desc.Size)
	}
	return existed, err
}
