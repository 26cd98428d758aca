package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

func (s *bucketStore) Publishing(ctx context.Context) (func(), error) {
	if err := s.bucket.Create(ctx); err != nil {
		return nil, s.wrap("publishing", err)
	}
	l, err := s.locks.publish(ctx)
	if err != nil {
		return nil, s.wrap("publishing", err)
	}
	return func() {
		// A lock that can't be removed now delays sweeps until it is stale, and does no other harm.
		_ = l.release()
	}, nil
}

func (s *bucketStore) Sweep(ctx context.Context) (swept Swept, err error) {
	l, _, err := s.locks.acquire(ctx, lockSweep)
	if err != nil {
		return Swept{}, s.wrap("sweeping", err)
	}
	if l == nil {
		return Swept{Busy: true}, nil
	}
	defer func() {
		err = errors.Join(err, s.wrap("sweeping", l.release()))
	}()
	if err := s.bucket.RemoveLeftovers(ctx); err != nil {
		return Swept{}, s.wrap("sweeping", err)
	}
	reachable, err := s.reachable(ctx)
	if err != nil {
		return Swept{}, err
	}
	for info, err := range s.bucket.List(ctx, blobPrefix) {
		if err != nil {
			return swept, s.wrap(blobPrefix, err)
		}
		if _, ok := reachable[info.Key]; ok {
			continue
		}
		if err := l.fresh(ctx); err != nil {
			return swept, s.wrap("sweeping", err)
		}
		switch err := s.bucket.Delete(ctx, info.Key, info.Generation); {
		case err == nil:
			swept.Blobs++
			swept.Bytes += info.Size
		case errors.Is(err, object.ErrNotFound), errors.Is(err, object.ErrPrecondition):
		default:
			return swept, s.wrap(info.Key, err)
		}
	}
	return swept, nil
}

// reachable returns the keys of the blobs that some ref leads to. A ref whose manifest can't be read makes it fail: what
// that manifest needs is not known, so nothing may be removed.
func (s *bucketStore) reachable(ctx context.Context) (map[string]struct{}, error) {
	refs, err := s.ListRefs(ctx, "")
	if err != nil {
		return nil, err
	}
	keys := map[string]struct{}{}
	for _, ref := range refs {
		key, err := blobKey(ref.Manifest.Digest)
		if err != nil {
			return nil, s.wrap(ref.Name, err)
		}
		if _, ok := keys[key]; ok {
			continue // a second name of the same snapshot
		}
		keys[key] = struct{}{}
		m, err := snapshot.LoadManifest(ctx, s, ref.Manifest)
		if errors.Is(err, ErrNotFound) && s.deleted(ctx, ref.Name) {
			continue // since it was listed, and swept by its remover
		}
		if err != nil {
			return nil, fmt.Errorf("sweeping: it is not known what %s needs: remove it first (`criu-docker rm`): %w", ref.Name, err)
		}
		for _, d := range append(m.Layers, m.Config) {
			if key, err = blobKey(d.Digest); err != nil {
				return nil, s.wrap(ref.Name, err)
			}
			keys[key] = struct{}{}
		}
	}
	return keys, nil
}

// deleted reports whether a ref is certainly gone.
func (s *bucketStore) deleted(ctx context.Context, ref string) bool {
	_, err := s.GetRef(ctx, ref)
	return errors.Is(err, ErrNotFound)
}
