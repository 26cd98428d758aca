// Package gcs keeps objects in a Google Cloud Storage bucket. Preconditions make every write safe to repeat, so the client
// library retries them all; STORAGE_EMULATOR_HOST is honoured by the library.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// Limits bound what an operation may take.
type Limits struct {
	RetryFor time.Duration // how long a request that fails is repeated
	Request  time.Duration // how long one request with its retries may take, parts of big objects singly
	PartSize int64         // bytes; bigger objects are read and written in parts
	Parallel int           // parts of one object that are read at the same time
}

// DefaultLimits suit networks from some Mbit/s on: a part arrives in time at 70 kB/s.
var DefaultLimits = Limits{RetryFor: 20 * time.Second, Request: time.Minute, PartSize: 4 << 20, Parallel: 4}

// Bucket is an object.Bucket over a bucket, or the part of it below a prefix.
type Bucket struct {
	client *storage.Client
	handle *storage.BucketHandle
	name   string
	prefix string // "" or ends in a slash
	limits Limits
}

// Open returns the bucket's part below prefix ("" for all). It looks for credentials, and does not speak to the bucket yet.
func Open(ctx context.Context, name, prefix string, limits Limits) (*Bucket, error) {
	if name == "" {
		return nil, errors.New("no bucket named: want gs://bucket/prefix")
	}
	// The JSON API answers with the object's generation and size in one request, and its errors are told apart.
	client, err := storage.NewClient(ctx, storage.WithJSONReads())
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, remedyLogin)
	}
	client.SetRetry(
		storage.WithPolicy(storage.RetryAlways),
		storage.WithBackoff(gax.Backoff{Initial: 100 * time.Millisecond, Max: 3 * time.Second, Multiplier: 2}),
		storage.WithMaxRetryDuration(limits.RetryFor),
	)
	if prefix != "" {
		prefix += "/"
	}
	return &Bucket{client: client, handle: client.Bucket(name), name: name, prefix: prefix, limits: limits}, nil
}

// Create implements object.Bucket: a bucket's owner creates it, since it costs money and needs a place and a policy.
func (b *Bucket) Create(context.Context) error { return nil }

// Stat implements object.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (object.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, b.limits.Request)
	defer cancel()
	attrs, err := b.object(key).Attrs(ctx)
	if err != nil {
		return object.Info{}, b.explain(ctx, err)
	}
	return b.info(attrs), nil
}

// List implements object.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		q := &storage.Query{Prefix: b.prefix + prefix}
		if err := q.SetAttrSelection([]string{"Name", "Size", "Generation", "Updated"}); err != nil {
			yield(object.Info{}, err)
			return
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		silent := time.AfterFunc(b.limits.Request, func() { cancel(context.DeadlineExceeded) })
		defer silent.Stop()
		it := b.handle.Objects(ctx, q)
		for {
			silent.Reset(b.limits.Request) // each page is a request
			attrs, err := it.Next()
			silent.Stop() // what the caller does is its own affair
			if errors.Is(err, context.Canceled) {
				err = errors.Join(context.Cause(ctx), err)
			}
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				yield(object.Info{}, b.explain(ctx, err))
				return
			}
			if !yield(b.info(attrs), nil) {
				return
			}
		}
	}
}

// Delete implements object.Bucket.
func (b *Bucket) Delete(ctx context.Context, key, generation string) error {
	conds, err := conditions(generation)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.limits.Request)
	defer cancel()
	return b.explain(ctx, b.object(key).If(conds).Delete(ctx))
}

// RemoveLeftovers implements object.Bucket: the service itself drops uploads that were not finished.
func (b *Bucket) RemoveLeftovers(context.Context) error { return nil }

// Close implements object.Bucket.
func (b *Bucket) Close() error { return b.client.Close() }

func (b *Bucket) object(key string) *storage.ObjectHandle {
	return b.handle.Object(b.prefix + key)
}

func (b *Bucket) info(a *storage.ObjectAttrs) object.Info {
	return object.Info{
		Key:        strings.TrimPrefix(a.Name, b.prefix),
		Size:       a.Size,
		Generation: strconv.FormatInt(a.Generation, 10),
		Updated:    a.Updated,
	}
}

func conditions(generation string) (storage.Conditions, error) {
	if generation == object.Absent {
		return storage.Conditions{DoesNotExist: true}, nil
	}
	g, err := strconv.ParseInt(generation, 10, 64)
	if err != nil || g <= 0 {
		return storage.Conditions{}, fmt.Errorf("generation %q is not one of a bucket's: %w", generation, object.ErrPrecondition)
	}
	return storage.Conditions{GenerationMatch: g}, nil
}
