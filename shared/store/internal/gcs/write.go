package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"cloud.google.com/go/storage"

	"github.com/criu-docker/criu-docker/shared/internal/reader"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Put implements object.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, size int64, r io.Reader, generation string) (object.Info, error) {
	conds, err := conditions(generation)
	if err != nil {
		return object.Info{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // an upload that was not closed is given up, and never becomes visible
	if size < b.limits.PartSize {
		return b.putSmall(ctx, b.object(key).If(conds), size, r)
	}
	return b.putBig(ctx, b.object(key).If(conds), size, r)
}

// putSmall sends an object in one request. It is read, and so checked, before the first byte is sent.
func (b *Bucket) putSmall(ctx context.Context, o *storage.ObjectHandle, size int64, r io.Reader) (object.Info, error) {
	content, err := io.ReadAll(io.LimitReader(r, size+1))
	if err != nil {
		return object.Info{}, fmt.Errorf("reading what is to be stored: %w", err)
	}
	if int64(len(content)) != size {
		return object.Info{}, wrongLength(int64(len(content)), size)
	}
	ctx, cancel := context.WithTimeout(ctx, b.limits.Request)
	defer cancel()
	start := time.Now()
	o = o.Retryer(storage.WithErrorFunc(func(err error) bool { // the client's own limit is not for uploads
		return time.Since(start) < b.limits.RetryFor && storage.ShouldRetry(err)
	}))
	w := o.NewWriter(ctx)
	w.ContentType = contentType
	w.ChunkSize = len(content) + 1 // all of it, kept for retries
	w.CRC32C, w.SendCRC32C = crc32.Checksum(content, castagnoli), true
	_, err = io.Copy(w, bytes.NewReader(content))
	return b.finish(ctx, w, err)
}

// putBig sends an object in parts, and goes on where a part failed. An error of r ends it before the last part, so that
// nothing becomes visible. The client sends the CRC32C with the last part; the answer is checked all the same.
func (b *Bucket) putBig(ctx context.Context, o *storage.ObjectHandle, size int64, r io.Reader) (object.Info, error) {
	w := o.NewWriter(ctx)
	w.ContentType = contentType
	w.ChunkSize = int(b.limits.PartSize)
	w.ChunkRetryDeadline = b.limits.RetryFor
	w.ChunkTransferTimeout = b.limits.Request
	sum := crc32.New(castagnoli)
	source := &reader.Keeper{R: io.TeeReader(r, sum)}
	n, err := io.Copy(w, source)
	switch {
	case source.Err != nil:
		return object.Info{}, fmt.Errorf("reading what is to be stored: %w", source.Err)
	case err == nil && n != size:
		return object.Info{}, wrongLength(n, size)
	}
	info, err := b.finish(ctx, w, err)
	if err == nil && w.Attrs().CRC32C != sum.Sum32() {
		err = errors.Join(errDamaged, b.Delete(ctx, info.Key, info.Generation))
	}
	return info, err
}

var errDamaged = errors.New("the upload was damaged on the way; try again")

// finish makes an upload visible, unless it has failed.
func (b *Bucket) finish(ctx context.Context, w *storage.Writer, err error) (object.Info, error) {
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return object.Info{}, b.explain(ctx, err)
	}
	return b.info(w.Attrs()), nil
}

const contentType = "application/octet-stream"

func wrongLength(n, size int64) error {
	return fmt.Errorf("got %d bytes to store instead of %d: %w", n, size, io.ErrUnexpectedEOF)
}
