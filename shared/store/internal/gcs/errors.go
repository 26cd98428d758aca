package gcs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"cloud.google.com/go/storage"
	"golang.org/x/oauth2"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

const (
	remedyLogin  = "run `gcloud auth application-default login`, or let GOOGLE_APPLICATION_CREDENTIALS name a key file, or attach a service account to this machine"
	remedyAccess = "grant this account roles/storage.objectUser on it, or roles/storage.objectViewer if it only restores"
)

// explain turns the service's errors into the sentinels of package object, or says what to do about them.
func (b *Bucket) explain(ctx context.Context, err error) error {
	var api *googleapi.Error
	var login *oauth2.RetrieveError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrBucketNotExist):
		return b.missing()
	case errors.Is(err, storage.ErrObjectNotExist):
		return b.notFound(ctx)
	case errors.As(err, &login):
		return fmt.Errorf("logging in to bucket %s: %w (%s)", b.name, err, remedyLogin)
	case errors.As(err, &api):
		return b.explainAPI(ctx, api)
	case unreachable(err):
		return fmt.Errorf("bucket %s is unreachable: check this machine's network, and STORAGE_EMULATOR_HOST if it is set: %w", b.name, err)
	default:
		return fmt.Errorf("bucket %s: %w", b.name, err)
	}
}

func (b *Bucket) explainAPI(ctx context.Context, err *googleapi.Error) error {
	switch err.Code {
	case http.StatusNotFound:
		return b.notFound(ctx)
	case http.StatusPreconditionFailed:
		return object.ErrPrecondition
	case http.StatusUnauthorized:
		return fmt.Errorf("bucket %s does not accept the credentials: %w (%s)", b.name, err, remedyLogin)
	case http.StatusForbidden:
		return fmt.Errorf("bucket %s denies access: %w (%s)", b.name, err, remedyAccess)
	default:
		return fmt.Errorf("bucket %s: %w", b.name, err)
	}
}

// notFound tells a missing object from a missing bucket: the service's answer to most requests is the same.
func (b *Bucket) notFound(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.limits.Request)
	defer cancel()
	q := &storage.Query{Prefix: b.prefix, Projection: storage.ProjectionNoACL}
	it := b.handle.Objects(ctx, q)
	it.PageInfo().MaxSize = 1
	_, err := it.Next()
	var api *googleapi.Error
	switch {
	case err == nil, errors.Is(err, iterator.Done):
		return object.ErrNotFound
	case errors.Is(err, storage.ErrBucketNotExist), errors.As(err, &api) && api.Code == http.StatusNotFound:
		return b.missing()
	default:
		return b.explain(ctx, err)
	}
}

func (b *Bucket) missing() error {
	return fmt.Errorf("bucket %s does not exist: create it, or correct the address", b.name)
}

func unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var u *url.Error
	return errors.As(err, &op) || errors.As(err, &dns) || errors.As(err, &u) || errors.Is(err, context.DeadlineExceeded)
}
