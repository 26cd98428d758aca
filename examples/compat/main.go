// Command compat tries what people run: small apps on Debian's frameworks and servers, and a program for each kind of kernel resource.
// Each is frozen on one node, restored on another one, twice at once, lazily and eagerly, and compared with a container that was booted
// cold. The outcome is docs/compatibility.md. It runs inside nodes of the lab: make compat.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/examples/compat/goserver"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	var storeURL, dir, only string
	var jobs int
	root := &cobra.Command{
		Use: "compat", Short: "Find out what can be restored from a snapshot",
		SilenceUsage: true, SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&storeURL, "store", "gs://snapshots/compat", "store that both nodes reach")
	flags.StringVar(&dir, "out", "out/compat", "directory of the results, a file a row")
	flags.IntVar(&jobs, "jobs", 3, "rows at a time; much of each is waiting")
	flags.StringVar(&only, "only", "", "regular expression: only rows with such a name")
	each := func(try attempt) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			pattern, err := regexp.Compile(only)
			if err != nil {
				return fmt.Errorf("--only: %w", err)
			}
			n, err := newNode(cmd.Context(), storeURL)
			if err != nil {
				return err
			}
			return errors.Join(tryEach(cmd.Context(), n, dir, pattern, jobs, try), n.close())
		}
	}
	root.AddCommand(
		&cobra.Command{Use: "build", Short: "Freeze each row", Args: cobra.NoArgs, RunE: each((*node).freeze)},
		&cobra.Command{Use: "start", Short: "Restore each row, and compare it with a cold boot", Args: cobra.NoArgs, RunE: each((*node).restore)},
		&cobra.Command{Use: "page FILE", Short: "Write the page of the results; fails where one is not as expected", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
			return publish(dir, args[0])
		}},
		&cobra.Command{Use: "serve", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return goserver.Serve(cmd.Context()) }},
	)
	return root
}

// attempt is what is done with a row: one of node's methods.
type attempt func(n *node, ctx context.Context, r row, slot int, previous result) result

// tryEach does something with each row that matches, some at a time, and notes what came of it.
func tryEach(ctx context.Context, n *node, dir string, only *regexp.Regexp, jobs int, try attempt) error {
	slots := make(chan int, jobs)
	for slot := range jobs {
		slots <- slot
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range rows() {
		if !only.MatchString(r.Name) {
			continue
		}
		slot := <-slots
		group.Go(func() error {
			defer func() { slots <- slot }()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			previous, err := readResult(dir, r.Name)
			if err != nil {
				return err
			}
			came := try(n, ctx, r, slot, previous)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			slog.Info("tried", "row", r.Name, "result", came.String())
			return came.write(dir)
		})
	}
	return group.Wait()
}
