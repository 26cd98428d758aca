package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/criu-docker/criu-docker/shared/store/internal/dir"
	"github.com/criu-docker/criu-docker/shared/store/internal/gcs"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// Open returns the store at an address: a directory (a plain path, or file:///path), which is created if it does not
// exist, or a bucket (gs://bucket/prefix). A bucket is first spoken to when it is used.
func Open(ctx context.Context, address string) (Store, error) {
	b, err := openBucket(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", address, err)
	}
	return newBucketStore(address, b), nil
}

func openBucket(ctx context.Context, address string) (object.Bucket, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	switch {
	case address == "":
		return nil, errors.New("the address is empty: give a directory or gs://bucket/prefix")
	case !ok:
		return dir.Open(address)
	case scheme == "file":
		u, err := url.Parse(address)
		if err != nil || u.Host != "" || u.Path == "" {
			return nil, errors.New("want file:///absolute/path")
		}
		return dir.Open(u.Path)
	case scheme == "gs":
		bucket, prefix, _ := strings.Cut(rest, "/")
		return gcs.Open(ctx, bucket, strings.Trim(prefix, "/"), gcs.DefaultLimits)
	default:
		return nil, fmt.Errorf("scheme %q is not known: give a directory, file:///path or gs://bucket/prefix", scheme)
	}
}
