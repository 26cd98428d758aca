package store

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/criu-docker/criu-docker/shared/store/internal/dir"
	"github.com/criu-docker/criu-docker/shared/store/internal/gcs"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// Open returns the store at an address: a directory (a plain path, or file:///path), or a bucket (gs://bucket/prefix). The
// store itself is first looked at when it is used; see ErrNoStore. A directory that others than root and this user may write to is
// refused with ErrUntrusted: a snapshot is a process image, and what is in it runs with the container's rights.
func Open(ctx context.Context, address string) (Store, error) {
	return open(ctx, address, false)
}

// OpenUntrusted is Open for a caller who was told to use a directory that others may write to: warn gets the error instead.
func OpenUntrusted(ctx context.Context, address string, warn func(error)) (Store, error) {
	s, err := open(ctx, address, false)
	if !errors.Is(err, ErrUntrusted) {
		return s, err
	}
	warn(err)
	return open(ctx, address, true)
}

func open(ctx context.Context, address string, untrusted bool) (Store, error) {
	l, err := parse(address)
	if err != nil {
		return nil, err
	}
	b, err := l.open(ctx, untrusted)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", address, err)
	}
	return newBucketStore(l.url, b), nil
}

// Validate reports what is wrong with an address that Open would refuse.
func Validate(address string) error {
	_, err := parse(address)
	return err
}

// Canonical returns the one spelling of a store's address: without trailing slashes, a directory as a plain path. It reports
// what is wrong with an address that Open would refuse.
func Canonical(address string) (string, error) {
	l, err := parse(address)
	switch {
	case err != nil:
		return "", err
	case l.dir != "":
		return filepath.Clean(l.dir), nil
	}
	return l.url, nil
}

// location is a parsed address.
type location struct {
	url            string // normalised
	dir            string // "" for a bucket
	bucket, prefix string
}

func parse(address string) (location, error) {
	l, err := split(address)
	if err != nil {
		return location{}, fmt.Errorf("store %q: %w", address, err)
	}
	return l, nil
}

func split(address string) (location, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if len(rest) > 1 {
		rest = strings.TrimRight(rest, "/")
	}
	switch {
	case address == "":
		return location{}, errors.New("the address is empty: give a directory or gs://bucket/prefix")
	case !ok && !strings.Contains(address, ":/"):
		return location{url: filepath.Clean(address), dir: address}, nil
	case scheme == "file" && strings.HasPrefix(rest, "/"):
		return location{url: "file://" + rest, dir: rest}, nil
	case scheme == "file":
		return location{}, errors.New("want file:///absolute/path")
	case scheme == "gs":
		bucket, prefix, _ := strings.Cut(rest, "/")
		if bucket == "" || (prefix != "" && path.Clean(prefix) != prefix) || strings.HasPrefix(prefix, "/") {
			return location{}, errors.New("want gs://bucket or gs://bucket/prefix")
		}
		return location{url: "gs://" + rest, bucket: bucket, prefix: prefix}, nil
	default:
		return location{}, errors.New("that scheme is not known: give a directory, file:///absolute/path or gs://bucket/prefix")
	}
}

func (l location) open(ctx context.Context, untrusted bool) (object.Bucket, error) {
	if l.dir != "" {
		return dir.Open(l.dir, untrusted)
	}
	return gcs.Open(ctx, l.bucket, l.prefix, gcs.DefaultLimits)
}
