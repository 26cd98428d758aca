package gcs

import (
	"context"
	"errors"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// Open is to come.
func Open(ctx context.Context, bucket, prefix string) (object.Bucket, error) {
	return nil, errors.New("gs:// is not there yet")
}
