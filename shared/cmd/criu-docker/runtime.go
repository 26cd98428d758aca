package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/runtimeinstall"
)

func runtimeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "runtime",
		Short: "Register the OCI runtime in the Docker Engine, or take it out again",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		changeRuntime(a, runtimeinstall.Install, &cobra.Command{
			Use:   "install",
			Short: "Install the runtime and register it in dockerd",
			Long: `Copies the runtime, criu-docker-runc beside this binary, to its place, and this binary beside it as its page server,
criu-docker-pages. Registers the runtime in dockerd's daemon.json as "criu-docker", switches experimental mode on (the
checkpoint API needs it), and lets dockerd reload. Everything else in daemon.json stays as it is, to the byte. Doing it
twice changes nothing. What a package has installed in /usr/bin is registered there and not copied.`,
		}),
		changeRuntime(a, runtimeinstall.Uninstall, &cobra.Command{
			Use:   "uninstall",
			Short: "Take back what install did, and nothing else",
			Long: `Takes the runtime out of dockerd's daemon.json, and removes it and its page server from where install puts them, even
if you had put the runtime there yourself. What a package has installed in /usr/bin stays until the package is removed.`,
		}),
	)
	return cmd
}

func changeRuntime(a *app, change func(context.Context, runtimeinstall.Options) (runtimeinstall.Result, error), cmd *cobra.Command) *cobra.Command {
	var opts runtimeinstall.Options
	cmd.Args = usage(cobra.NoArgs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opts.Host = a.host
		result, err := change(cmd.Context(), opts)
		if err != nil {
			return err
		}
		return a.printInstalled(result)
	}
	cmd.Flags().StringVar(&opts.Binary, "binary", "", "where the runtime is installed; its page server goes beside it (default "+runtimeinstall.DefaultBinary+", or where a package has put it)")
	cmd.Flags().StringVar(&opts.DaemonJSON, "daemon-json", "", "dockerd's configuration file (default: the one that the running dockerd reads)")
	if cmd.Name() == "uninstall" {
		cmd.Flags().BoolVar(&opts.Force, "force", false, "even though containers use the runtime; they can't be started again then")
	}
	return cmd
}

func (a *app) printInstalled(r runtimeinstall.Result) error {
	if a.json {
		return a.printJSON(r)
	}
	say := func(changed bool, what string) {
		if changed {
			fmt.Fprintf(a.stdout, "%s: changed\n", what)
		} else {
			fmt.Fprintf(a.stdout, "%s: as it was\n", what)
		}
	}
	say(r.BinaryChanged, r.Binary)
	say(r.PagesChanged, r.Pages)
	say(r.ConfigChanged, r.DaemonJSON)
	if r.Reloaded {
		fmt.Fprintln(a.stdout, "dockerd: reloaded")
	}
	if r.RestartNeeded {
		fmt.Fprintln(a.stdout, "dockerd: restart it to complete this (systemctl restart docker)")
	}
	return nil
}
