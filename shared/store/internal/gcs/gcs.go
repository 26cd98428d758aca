// Package gcs keeps objects in a Google Cloud Storage bucket. Preconditions make every write safe to repeat, so the client
// library retries them all; STORAGE_EMULATOR_HOST is honoured by the library.
package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

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

// Put implements object.Bucket. Small objects are read, and so checked, before the first byte is sent.
func (b *Bucket) Put(ctx context.Context, key string, size int64, r io.Reader, generation string) (object.Info, error) {
	conds, err := conditions(generation)
	if err != nil {
		return object.Info{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // an upload that was not closed is given up, and never becomes visible
	w := b.object(key).If(conds).NewWriter(ctx)
	w.ContentType = "application/octet-stream"
	w.ChunkSize = int(b.limits.PartSize)
	w.ChunkRetryDeadline = b.limits.RetryFor
	w.ChunkTransferTimeout = b.limits.Request
	if size < b.limits.PartSize {
		content, err := io.ReadAll(io.LimitReader(r, size+1))
		if err != nil {
			return object.Info{}, fmt.Errorf("reading what is to be stored: %w", err)
		}
		timer := time.AfterFunc(b.limits.Request, cancel)
		defer timer.Stop()
		w.ChunkSize = len(content) + 1 // sent in one request, kept for retries
		w.CRC32C, w.SendCRC32C = crc32.Checksum(content, castagnoli), true
		r = bytes.NewReader(content)
	}
	source := &errKeeper{r: r}
	n, err := io.Copy(w, source)
	switch {
	case source.err != nil:
		return object.Info{}, fmt.Errorf("reading what is to be stored: %w", source.err)
	case err != nil:
		return object.Info{}, b.explain(ctx, err)
	case n != size:
		return object.Info{}, fmt.Errorf("got %d bytes to store instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err := w.Close(); err != nil {
		return object.Info{}, b.explain(ctx, err)
	}
	return b.info(w.Attrs()), nil
}

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
		it := b.handle.Objects(ctx, q) // every page is a request, bounded by the retry limit
		for {
			attrs, err := it.Next()
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

// errKeeper remembers the error that ended its reader, to tell it from those of the upload.
type errKeeper struct {
	r   io.Reader
	err error
}

func (e *errKeeper) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		e.err = err
	}
	return n, err
}
