// Command hosts tries the product on several kinds of host: cgroup v1 and v2, systemd, Docker's image stores, and other versions of
// Docker and runc. On each, a lane, it does what users do, by the command lines that users have, and then starts what the other
// lanes have frozen. The outcome is docs/supported-hosts.md: make hosts.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "hosts:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "hosts", Short: "Try the product on several kinds of host",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(runCommand(), pageCommand(), checkCommand())
	return root
}

func runCommand() *cobra.Command {
	var s suite
	var only string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Bring each lane up, and try everything there; root, on the host of the labs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pattern, err := regexp.Compile(only)
			if err != nil {
				return fmt.Errorf("--only: %w", err)
			}
			for _, l := range lanes {
				if pattern.MatchString(l.Name) {
					s.lanes = append(s.lanes, l)
				}
			}
			return s.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.lab, "lab", "lab", "the lab's program")
	flags.StringVar(&s.bin, "bin", "bin", "directory of the programs to try, this one among them")
	flags.StringVar(&s.packages, "packages", "out/release", "directory of the packages to try, where there is a package manager")
	flags.StringVar(&s.readme, "readme", "README.md", "the file whose commands are run as they stand there")
	flags.StringVar(&s.older, "older", "out/older", "directory of the same packages of an older version")
	flags.StringVar(&s.dir, "dir", "/var/lib/criu-docker-lab-hosts", "directory of the lanes' labs, and of the snapshots that they share")
	flags.StringVar(&s.out, "out", "out/hosts", "directory of the results, a file a lane")
	flags.StringVar(&only, "only", "", "regular expression: only lanes with such a name")
	return cmd
}

func pageCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "page FILE",
		Short: "Write the page of the results; fails where one is not as expected",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return publish(out, args[0]) },
	}
	cmd.Flags().StringVar(&out, "out", "out/hosts", "directory of the results, a file a lane")
	return cmd
}

func checkCommand() *cobra.Command {
	var h host
	cmd := &cobra.Command{
		Use:    "check PHASE",
		Short:  "Do one part of it, on this very host (started by run)",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(cmd *cobra.Command, args []string) error { return h.check(cmd.Context(), args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&h.lane, "lane", "", "name of the lane")
	flags.StringVar(&h.stores, "stores", "", "directory of the lanes' stores")
	flags.StringVar(&h.bin, "bin", "bin", "directory of the Terraform provider")
	flags.StringVar(&h.packages, "packages", "out/release", "directory of the packages")
	flags.StringVar(&h.readmeFile, "readme", "README.md", "file with the commands")
	flags.StringVar(&h.older, "older", "out/older", "directory of older ones")
	flags.DurationVar(&h.patience, "patience", patience, "how long a step may take")
	flags.StringVar(&h.out, "out", "out/hosts", "directory of the results")
	return cmd
}
