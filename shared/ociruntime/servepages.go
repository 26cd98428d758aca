package ociruntime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/criu-docker/criu-docker/shared/pages"
)

// PagesName is the file name of the page server, which lies beside the runtime: the criu-docker binary called by this name
// serves the pages of one clone. Its argument is the container's id. Where nothing has to come from a store, the runtime's
// own binary does the same, by the same name: it is smaller, and starts in half of the time.
const PagesName = "criu-docker-pages"

// OpenSource opens what a page server gets missing pages from. It returns nil if nothing is missing any more.
type OpenSource func(context.Context, Source) (_ pages.Source, release func(), err error)

// ServePages is what a page server does: it serves the pages of a container for the supervisor that started it. It writes why
// it ends early to standard error, which is the clone's pages.log.
func ServePages(ctx context.Context, container string, open OpenSource) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("container", container)
	conn := pages.NewConn(pagesFd)
	defer conn.Close()
	if err := serveClone(ctx, conn, container, open); err != nil {
		log.Error("page server ends", "error", err)
		return err
	}
	return nil
}

// pagesFd is where the page server finds its connection to the supervisor.
const pagesFd = 3

// serveClone does what the request of a container asks its page server to do.
func serveClone(ctx context.Context, conn *pages.Conn, container string, open OpenSource) error {
	opts, release, err := pageOptions(ctx, container, open)
	if err != nil {
		_ = conn.Send(pages.Message{Kind: pages.KindFailed, Error: err.Error()}, -1) // a supervisor that is gone needs no answer
		return err
	}
	defer release()
	return pages.Serve(ctx, conn, opts)
}

func pageOptions(ctx context.Context, container string, open OpenSource) (opts pages.Options, release func(), err error) {
	req, err := RunDir(DefaultRunDir).ReadRequest(container)
	if err != nil {
		return opts, nil, fmt.Errorf("request of container %.12s: %w", container, err)
	}
	opts.Dir = req.CheckpointDir
	if req.Record != "" {
		record, err := os.OpenFile(req.Record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return opts, nil, fmt.Errorf("record of the pages that are needed: %w", err)
		}
		opts.Record = pages.NewRecorder(record)
		return opts, func() { record.Close() }, nil
	}
	if opts.First, err = pages.ReadFirst(opts.Dir); err != nil {
		return opts, nil, err
	}
	release = func() {}
	if req.Source != nil {
		opts.Source, release, err = open(ctx, *req.Source)
	}
	return opts, release, err
}

// serveWhole is the page server of a clone whose page images are whole. It returns the exit code.
func serveWhole(args []string) int {
	if len(args) != 1 {
		fmt.Fprintf(os.Stderr, "usage: %s CONTAINER; it is started by %s\n", PagesName, Name)
		return 2
	}
	// It lives shortly, and what it needs at once it needs to the end: collecting garbage would be in vain.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(64 << 20)
	err := ServePages(context.Background(), args[0], func(context.Context, Source) (pages.Source, func(), error) {
		return nil, nil, errors.New("the runtime itself has no stores, and is not started with a source")
	})
	if err != nil {
		return 1 // the log says why
	}
	return 0
}
