package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

const blobPrefix = "blobs/sha256/"

// bucketStore is a Store over any object.Bucket.
type bucketStore struct {
	url    string
	bucket object.Bucket
	locks  *locks
}

func newBucketStore(url string, b object.Bucket) *bucketStore {
	return &bucketStore{url: url, bucket: b, locks: newLocks(b)}
}

func (s *bucketStore) URL() string { return s.url }

func (s *bucketStore) Close() error { return s.bucket.Close() }

func (s *bucketStore) PutBlob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (bool, error) {
	key, err := blobKey(desc.Digest)
	if err != nil {
		return false, s.wrap(desc.Digest.String(), err)
	}
	info, err := s.bucket.Stat(ctx, key)
	switch {
	case err == nil && info.Size == desc.Size:
		return true, nil
	case err == nil: // damaged by something other than us; heal it, since the new content proves itself
	case errors.Is(err, object.ErrNotFound):
		info.Generation = object.Absent
	case errors.Is(err, ErrNoStore):
		info.Generation = object.Absent
		if err := s.bucket.Create(ctx); err != nil {
			return false, s.wrap(key, err)
		}
	default:
		return false, s.wrap(key, err)
	}
	_, err = s.bucket.Put(ctx, key, desc.Size, snapshot.VerifyingReader(r, desc), info.Generation)
	if errors.Is(err, object.ErrPrecondition) {
		return true, nil // another publication was faster; the same digest means the same content
	}
	return false, s.wrap(key, err)
}

func (s *bucketStore) OpenBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	key, err := blobKey(desc.Digest)
	if err != nil {
		return nil, s.wrap(desc.Digest.String(), err)
	}
	rc, info, err := s.bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, s.wrap(key, err)
	}
	if info.Size != desc.Size {
		rc.Close()
		return nil, s.wrap(key, fmt.Errorf("%w: it has %d bytes, not %d", ErrCorrupt, info.Size, desc.Size))
	}
	return &blobReader{s: s, key: key, r: snapshot.VerifyingReader(rc, desc), c: rc}, nil
}

func (s *bucketStore) ReadBlobAt(ctx context.Context, dgst digest.Digest, off, n int64) (io.ReadCloser, error) {
	key, err := blobKey(dgst)
	if err != nil {
		return nil, s.wrap(dgst.String(), err)
	}
	if off < 0 || n < 0 {
		return nil, s.wrap(key, fmt.Errorf("reading %d bytes at %d: want an offset and a length of 0 or more", n, off))
	}
	rc, info, err := s.bucket.Get(ctx, key, off, n)
	if err != nil {
		return nil, s.wrap(key, err)
	}
	if info.Size < off+n {
		rc.Close()
		return nil, s.wrap(key, fmt.Errorf("%w: %d bytes at %d asked for, it has %d", ErrCorrupt, n, off, info.Size))
	}
	return &blobReader{s: s, key: key, r: rc, c: rc}, nil
}

func (s *bucketStore) StatBlob(ctx context.Context, dgst digest.Digest) (int64, error) {
	key, err := blobKey(dgst)
	if err != nil {
		return 0, s.wrap(dgst.String(), err)
	}
	info, err := s.bucket.Stat(ctx, key)
	return info.Size, s.wrap(key, err)
}

// wrap names the store and the key, and turns a bucket's sentinels into the store's.
func (s *bucketStore) wrap(key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, object.ErrNotFound):
		return fmt.Errorf("store %s: %s: %w", s.url, key, ErrNotFound)
	case errors.Is(err, object.ErrPrecondition):
		return fmt.Errorf("store %s: %s: %w", s.url, key, ErrConflict)
	default:
		return fmt.Errorf("store %s: %s: %w", s.url, key, err)
	}
}

// blobKey refuses digests that are not well-formed sha256 ones, so that no key leaves the blobs.
func blobKey(dgst digest.Digest) (string, error) {
	if err := dgst.Validate(); err != nil {
		return "", err
	}
	if dgst.Algorithm() != digest.SHA256 {
		return "", fmt.Errorf("digest algorithm %s is not supported: only sha256 is", dgst.Algorithm())
	}
	return blobPrefix + dgst.Encoded(), nil
}

// blobReader gives read errors the blob's name.
type blobReader struct {
	s   *bucketStore
	key string
	r   io.Reader
	c   io.Closer
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.s.wrap(b.key, err)
	}
	return n, err
}

func (b *blobReader) Close() error { return b.c.Close() }
