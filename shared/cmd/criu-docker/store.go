package main

import "github.com/spf13/cobra"

func storeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after the store",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "sweep",
		Short: "Remove what no snapshot needs",
		Long: `Removes the blobs that no snapshot in the store leads to: what builds that were killed have uploaded. Builds that fail, and
rm, do so by themselves. It fails while a snapshot is being published.

With --json it prints {"event": "swept", "blobs", "bytes", "busy"}.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			swept, err := a.sweep(cmd.Context())
			if err == nil && swept.Busy {
				err = errReported
			}
			return err
		},
	})
	return cmd
}
