package main

import (
	"github.com/spf13/cobra"
)

func serviceCommand(lab *Lab) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "restart SERVICE",
		Short: "Restart a service of a node, such as nomad after its plugin was installed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n := lab.node(node)
			if _, err := n.ask(cmd.Context(), request{Op: "restart", Service: args[0]}); err != nil {
				return err
			}
			return n.waitReady(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&node, "node", envOr("LAB_NODE", "node1"), "node (LAB_NODE)")
	return cmd
}
