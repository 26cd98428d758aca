package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/pages"
)

// servePages serves the memory of the clone that args name, for the supervisor at descriptor ociruntime.PagesFd, and
// returns the exit code. Whoever wants to know whether it would run asks for its version.
func servePages(args []string, stdout, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if len(args) == 1 && args[0] == "--version" {
		return run([]string{"version"}, stdout, stderr)
	}
	if len(args) != 1 {
		fmt.Fprintf(stderr, "usage: %s CONTAINER; it is started by %s\n", ociruntime.PagesName, ociruntime.Name)
		return exitUsage
	}
	ctx, stop := interruptible(context.Background())
	defer stop()
	conn := pages.NewConn(ociruntime.PagesFd)
	defer conn.Close()
	opts, err := pageOptions(args[0])
	if err == nil {
		err = pages.Serve(ctx, conn, opts)
	}
	if err != nil {
		log.Error("page server ends", "container", args[0], "error", err)
		return exitFailure
	}
	return exitOK
}

// pageOptions are what the request of a container asks its page server to do.
func pageOptions(container string) (pages.Options, error) {
	req, err := ociruntime.RunDir(ociruntime.DefaultRunDir).ReadRequest(container)
	if err != nil {
		return pages.Options{}, fmt.Errorf("request of container %.12s: %w", container, err)
	}
	return pages.Options{Dir: req.CheckpointDir}, nil
}
