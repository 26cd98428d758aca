// Command lab runs a small data centre on one Linux machine: Docker Engine with CRIU, a Nomad agent and a bucket,
// inside namespaces of their own, so that everything in this repository can be tried and tested against the real thing
// without touching what already runs on the host.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	err := rootCommand().ExecuteContext(context.Background())
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// exitCode ends the program with the code of a command that ran in a node, without a message of the lab's own.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func rootCommand() *cobra.Command {
	lab := defaultLab()
	root := &cobra.Command{
		Use:           "lab",
		Short:         "A one-machine Docker + CRIU + Nomad + bucket to develop and test against",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVar(&lab.Dir, "dir", lab.Dir, "directory of the lab's state (LAB_DIR)")
	flags.StringVar(&lab.Cache, "cache", lab.Cache, "directory of what is built once: root file systems, images, binaries (LAB_CACHE; default DIR/cache)")
	verbose := flags.BoolP("verbose", "v", false, "log every step")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		level := slog.LevelInfo
		if *verbose {
			level = slog.LevelDebug
		}
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
		return lab.complete()
	}
	root.AddCommand(
		upCommand(lab),
		downCommand(lab),
		statusCommand(lab),
		execCommand(lab),
		installCommand(lab),
		serviceCommand(lab),
		imagesCommand(lab),
		layerCommand(lab),
		initCommand(),
		agentCommand(),
		switchCommand(),
		fakeGCSCommand(),
	)
	return root
}

// interruptible returns a context that ends on ctrl-C or SIGTERM, so that half-built things are cleaned up.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}
