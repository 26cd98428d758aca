package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

const (
	refPrefix = "refs/"
	maxRef    = 64 << 10 // bytes; a descriptor has about 200
)

func (s *bucketStore) PutRef(ctx context.Context, name string, manifest ocispec.Descriptor, previous string) error {
	key, err := refKey(name)
	if err != nil {
		return s.wrap(name, err)
	}
	if err := s.bucket.Create(ctx); err != nil {
		return s.wrap(key, err)
	}
	if err := s.locks.confirm(ctx); err != nil {
		return s.wrap(key, err)
	}
	b, err := json.Marshal(ocispec.Descriptor{MediaType: manifest.MediaType, ArtifactType: manifest.ArtifactType, Digest: manifest.Digest, Size: manifest.Size})
	if err != nil {
		return s.wrap(key, err)
	}
	_, err = s.bucket.Put(ctx, key, int64(len(b)), bytes.NewReader(b), previous)
	if errors.Is(err, object.ErrPrecondition) || errors.Is(err, object.ErrNotFound) {
		// Perhaps it was ourselves: an earlier attempt that succeeded, though its answer was lost.
		if now, getErr := s.GetRef(ctx, name); getErr == nil && now.Manifest.Digest == manifest.Digest {
			return nil
		}
		return s.wrap(key, object.ErrPrecondition)
	}
	return s.wrap(key, err)
}

func (s *bucketStore) GetRef(ctx context.Context, name string) (Entry, error) {
	key, err := refKey(name)
	if err != nil {
		return Entry{}, s.wrap(name, err)
	}
	rc, info, err := s.bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return Entry{}, s.wrap(key, err)
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, maxRef+1))
	if err != nil {
		return Entry{}, s.wrap(key, err)
	}
	manifest, err := parseRef(b)
	return Entry{Name: name, Manifest: manifest, Generation: info.Generation, Updated: info.Updated}, s.wrap(key, err)
}

func (s *bucketStore) ListRefs(ctx context.Context, prefix string) ([]Entry, error) {
	var entries []Entry
	var unreadable error
	for info, err := range s.bucket.List(ctx, refPrefix+prefix) {
		if err != nil {
			return nil, s.wrap(refPrefix+prefix, err)
		}
		if strings.HasSuffix(info.Key, "/") {
			continue // what consoles make to show a folder
		}
		name := strings.TrimPrefix(info.Key, refPrefix)
		if _, err := refKey(name); err != nil {
			unreadable = errors.Join(unreadable, s.wrap(info.Key, fmt.Errorf("%w: %w", ErrCorrupt, err)))
			continue
		}
		e, err := s.GetRef(ctx, name)
		switch {
		case err == nil:
			entries = append(entries, e)
		case errors.Is(err, ErrNotFound): // deleted since it was listed
		case errors.Is(err, ErrCorrupt):
			unreadable = errors.Join(unreadable, err)
		default:
			return nil, err
		}
	}
	return entries, unreadable
}

func (s *bucketStore) DeleteRef(ctx context.Context, name, generation string) error {
	key, err := refKey(name)
	if err != nil {
		return s.wrap(name, err)
	}
	return s.wrap(key, s.bucket.Delete(ctx, key, generation))
}

func refKey(name string) (string, error) {
	if name == "." || path.Clean(name) != name || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "..") {
		return "", fmt.Errorf("ref name %q: want parts separated by single slashes, such as IMAGEHEX/FINGERPRINT/ARCH", name)
	}
	return refPrefix + name, nil
}

func parseRef(b []byte) (ocispec.Descriptor, error) {
	var d ocispec.Descriptor
	if len(b) > maxRef {
		return d, fmt.Errorf("%w: a ref has at most %d bytes", ErrCorrupt, maxRef)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return d, fmt.Errorf("%w: it is not a descriptor: %v", ErrCorrupt, err) //nolint:errorlint // one sentinel is enough
	}
	if _, err := blobKey(d.Digest); err != nil || d.Size <= 0 {
		return d, fmt.Errorf("%w: it names no manifest (digest %q, %d bytes)", ErrCorrupt, d.Digest, d.Size)
	}
	return d, nil
}
