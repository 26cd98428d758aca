package main

import (
	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/doctor"
)

func doctorCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine is fit, and say what to do if not",
		Long: `Looks at the machine, the Docker Engine, runc and CRIU, and prints what it finds, what it should find, and what to
do about the difference. Nothing is changed. The exit code is 1 if anything is wrong that keeps snapshots from working.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := doctor.Run(cmd.Context(), doctor.Options{Host: a.host, CacheDir: a.cache})
			if err := a.printChecks(checks); err != nil {
				return err
			}
			if doctor.Err(checks) != nil {
				return errReported
			}
			return nil
		},
	}
}

func (a *app) printChecks(checks []doctor.Check) error {
	if a.json {
		for _, c := range checks {
			if err := a.printJSON(c); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(a.stdout, "STATUS", "CHECK", "FOUND")
	for _, c := range checks {
		t.row(string(c.Status), c.Name, c.Found)
		if c.Status != doctor.OK {
			t.row("", "", "  wanted: "+c.Want)
			t.row("", "", "  remedy: "+c.Remedy)
		}
		for _, note := range c.Notes {
			t.row("", "", "  note: "+note)
		}
	}
	return t.flush()
}
