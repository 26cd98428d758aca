package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/store"
)

// servePages serves the memory of the clone that args name, for the supervisor at descriptor ociruntime.PagesFd, and
// returns the exit code. Whoever wants to know whether it would run asks for its version.
func servePages(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "--version" {
		return run([]string{"version"}, stdout, stderr)
	}
	if len(args) != 1 {
		fmt.Fprintf(stderr, "usage: %s CONTAINER; it is started by %s\n", ociruntime.PagesName, ociruntime.Name)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(stderr, nil)).With("container", args[0])
	ctx, stop := interruptible(context.Background())
	defer stop()
	conn := pages.NewConn(ociruntime.PagesFd)
	defer conn.Close()
	if err := serveClone(ctx, conn, args[0]); err != nil {
		log.Error("page server ends", "error", err)
		return exitFailure
	}
	return exitOK
}

// serveClone does what the request of a container asks its page server to do.
func serveClone(ctx context.Context, conn *pages.Conn, container string) error {
	req, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadRequest(container)
	if err != nil {
		return fail(conn, fmt.Errorf("request of container %.12s: %w", container, err))
	}
	opts := pages.Options{Dir: req.CheckpointDir}
	if req.Source != nil {
		entry, err := openSource(ctx, *req.Source)
		if err != nil {
			return fail(conn, err)
		}
		defer entry.Release()
		if opts.First, err = entry.First(); err != nil {
			return fail(conn, err)
		}
		if entry.Filling != nil {
			opts.Source = quietly{entry.Filling}
		}
	}
	if req.Record != "" {
		record, err := os.OpenFile(req.Record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fail(conn, fmt.Errorf("record of the pages that are needed: %w", err))
		}
		defer record.Close()
		opts.Record = pages.NewRecorder(record)
	}
	return pages.Serve(ctx, conn, opts)
}

// fail tells the supervisor why there will be no service.
func fail(conn *pages.Conn, err error) error {
	_ = conn.Send(pages.Message{Kind: pages.KindFailed, Error: err.Error()}, -1) // a supervisor that is gone needs no answer
	return err
}

// openSource finds the snapshot in the cache.
func openSource(ctx context.Context, src ociruntime.Source) (*cache.Entry, error) {
	c, err := cache.Open(src.Cache, 0)
	if err != nil {
		return nil, err
	}
	return c.Resume(ctx, digest.Digest(src.Manifest), func(ctx context.Context) (store.Store, error) {
		return store.Open(ctx, src.Store)
	})
}

// quietly is the filling of a clone that runs: it must not feel the rest of it.
type quietly struct{ *cache.Filling }

func (q quietly) FetchAll(ctx context.Context) error { return q.FetchQuietly(ctx) }
