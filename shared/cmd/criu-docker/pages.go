package main

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/store"
)

// servePages serves the memory of the clone that args name, for its supervisor, and returns the exit code.
// To find out whether it would run, ask for its version.
func servePages(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "--version" {
		return run([]string{"version"}, stdout, stderr)
	}
	if len(args) != 1 {
		fmt.Fprintf(stderr, "usage: %s CONTAINER; it is started by %s\n", ociruntime.PagesName, ociruntime.Name)
		return exitUsage
	}
	ctx, stop := interruptible(context.Background())
	defer stop()
	if err := ociruntime.ServePages(ctx, args[0], openSource); err != nil {
		return exitFailure
	}
	return exitOK
}

// openSource finds the snapshot in the cache.
func openSource(ctx context.Context, src ociruntime.Source) (pages.Source, func(), error) {
	c, err := cache.Open(src.Cache, 0)
	if err != nil {
		return nil, nil, err
	}
	entry, err := c.Resume(ctx, digest.Digest(src.Manifest), func(ctx context.Context) (store.Store, error) {
		// Who may write to it was looked at when the snapshot was resolved; each frame is checked against its manifest.
		return store.OpenUntrusted(ctx, src.Store, func(error) {})
	})
	if err != nil {
		return nil, nil, err
	}
	if entry.Filling == nil { // whole by now
		return nil, entry.Release, nil
	}
	return quietly{entry.Filling}, entry.Release, nil
}

// quietly is the filling of a clone that runs: it must not feel the rest of it.
type quietly struct{ *cache.Filling }

func (q quietly) FetchAll(ctx context.Context) error { return q.FetchQuietly(ctx) }
