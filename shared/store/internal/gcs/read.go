package gcs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// Get implements object.Bucket. Of big objects several parts are read at the same time, all of one generation.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, object.Info, error) {
	if n == 0 {
		return b.empty(ctx, key)
	}
	first := b.limits.PartSize
	if n > 0 {
		first = min(n, first)
	}
	r, err := b.openPart(ctx, b.object(key), off, first)
	var api *googleapi.Error
	if errors.As(err, &api) && api.Code == http.StatusRequestedRangeNotSatisfiable {
		return b.empty(ctx, key) // nothing at off
	}
	if err != nil {
		return nil, object.Info{}, b.explain(ctx, err)
	}
	attrs := r.reader.Attrs
	info := object.Info{Key: key, Size: attrs.Size, Generation: strconv.FormatInt(attrs.Generation, 10), Updated: attrs.LastModified}
	end := attrs.Size
	if n > 0 {
		end = min(end, off+n)
	}
	if off+first >= end {
		return r, info, nil
	}
	return b.readParts(ctx, key, attrs.Generation, r, off+first, end), info, nil
}

// empty reads nothing of an object that must be there.
func (b *Bucket) empty(ctx context.Context, key string) (io.ReadCloser, object.Info, error) {
	info, err := b.Stat(ctx, key)
	return io.NopCloser(bytes.NewReader(nil)), info, err
}

// part is a running request with a deadline.
type part struct {
	b      *Bucket
	ctx    context.Context //nolint:containedctx // lives as long as the request
	cancel context.CancelFunc
	reader *storage.Reader
}

func (b *Bucket) openPart(ctx context.Context, o *storage.ObjectHandle, off, n int64) (*part, error) {
	ctx, cancel := context.WithTimeout(ctx, b.limits.Request)
	r, err := o.NewRangeReader(ctx, off, n)
	if err != nil {
		cancel()
		return nil, err
	}
	return &part{b: b, ctx: ctx, cancel: cancel, reader: r}, nil
}

func (p *part) Read(buf []byte) (int, error) {
	n, err := p.reader.Read(buf)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		err = p.b.explain(p.ctx, err)
	}
	return n, err
}

func (p *part) Close() error {
	defer p.cancel()
	return p.reader.Close()
}

// parts reads an object's parts in their order, fetching some ahead.
type parts struct {
	ctx     context.Context //nolint:containedctx // ends with Close
	current io.Reader
	err     error // that ended it; io.EOF after the last part
	first   io.Closer
	queue   chan chan fetched // in order; its capacity bounds the parts in memory
	cancel  context.CancelFunc
	running sync.WaitGroup
}

type fetched struct {
	content []byte
	err     error
}

func (b *Bucket) readParts(ctx context.Context, key string, generation int64, first *part, off, end int64) *parts {
	ctx, cancel := context.WithCancel(ctx)
	p := &parts{ctx: ctx, current: first, first: first, queue: make(chan chan fetched, b.limits.Parallel-2), cancel: cancel}
	o := b.object(key).Generation(generation)
	p.running.Go(func() {
		defer close(p.queue)
		for ; off < end; off += b.limits.PartSize {
			answer := make(chan fetched, 1)
			select {
			case p.queue <- answer:
			case <-ctx.Done():
				return
			}
			at, n := off, min(b.limits.PartSize, end-off)
			p.running.Go(func() { answer <- b.fetch(ctx, o, at, n) })
		}
	})
	return p
}

func (b *Bucket) fetch(ctx context.Context, o *storage.ObjectHandle, off, n int64) fetched {
	r, err := b.openPart(ctx, o, off, n)
	if err != nil {
		return fetched{err: b.explain(ctx, err)}
	}
	defer r.Close()
	content := make([]byte, n)
	if _, err := io.ReadFull(r, content); err != nil {
		return fetched{err: err}
	}
	return fetched{content: content}
}

func (p *parts) Read(buf []byte) (int, error) {
	for p.err == nil {
		n, err := p.current.Read(buf)
		if err != nil {
			p.err = p.next(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, p.err
}

// next goes on to the next part when one has ended, with io.EOF, and returns what ends the object.
func (p *parts) next(err error) error {
	if err != io.EOF { //nolint:errorlint // io.Reader's contract
		return err
	}
	answer, ok := <-p.queue
	if !ok {
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx) // the parts that are missing were not asked for
		}
		return io.EOF
	}
	part := <-answer
	p.current = bytes.NewReader(part.content)
	return part.err
}

func (p *parts) Close() error {
	p.cancel()
	err := p.first.Close()
	p.running.Wait()
	return err
}
