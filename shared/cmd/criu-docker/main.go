// Command criu-docker builds snapshots of booted containers and starts containers from them. The same binary is the
// page server of lazily restored containers when it is called criu-docker-pages.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// Exit codes; docs/cli.md lists them.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3   // no such snapshot
	exitEngine   = 125 // the engine can't be reached; as docker does
	exitSignal   = 128 // plus the signal's number
)

func main() {
	if filepath.Base(os.Args[0]) == ociruntime.PagesName {
		os.Exit(servePages(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit code. An error is printed once.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(context.Background())
	defer stop()
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintf(stderr, "criu-docker: %v\n", err)
	}
	return exitCode(ctx, err)
}

// errReported is returned by commands that have already said what is wrong.
var errReported = errors.New("reported")

// usageError is an error in a command line rather than in what it asks for.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// noSnapshotError means that a ref names nothing. A missing blob is a different error: there is a snapshot then, a damaged one.
type noSnapshotError struct{ error }

func (e noSnapshotError) Unwrap() error { return e.error }

// resolve finds the snapshot that an operand names.
func resolve(ctx context.Context, s store.Store, ref string) (store.Entry, error) {
	entry, err := store.Resolve(ctx, s, ref)
	if errors.Is(err, store.ErrNotFound) {
		err = noSnapshotError{err}
	}
	return entry, err
}

// interrupted is the cause of a context that a signal has ended.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return i.signal.String() }

func exitCode(ctx context.Context, err error) int {
	var usage usageError
	var noSnapshot noSnapshotError
	var by interrupted
	switch {
	case err == nil:
		return exitOK
	case errors.As(context.Cause(ctx), &by):
		return exitSignal + int(by.signal)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &noSnapshot), errors.Is(err, restore.ErrNoSnapshot):
		return exitNotFound
	case errors.Is(err, engine.ErrUnreachable):
		return exitEngine
	default:
		return exitFailure
	}
}

// interruptible returns a context that ends at the first SIGINT or SIGTERM, so that commands clean up after themselves;
// the second one ends the program at once.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(interrupted{s.(syscall.Signal)}) //nolint:forcetypeassert // there is no other kind on Unix
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}
