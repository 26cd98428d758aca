package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/version"
)

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit that it was built from, and the commit's date",
		Long:  `With --json it prints {"version", "revision", "date", "modified", "go"}.`,
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(version.Get())
			}
			_, err := fmt.Fprintf(a.stdout, "criu-docker %s\n", version.Get().Line())
			return err
		},
	}
}
