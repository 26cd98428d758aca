package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

// publish lets Terraform make the snapshots of examples/terraform, with the provider that was just built. It works on a copy
// in dir, where the state stays, so that the next run finds nothing to do.
func publish(ctx context.Context, store, dir string) error {
	bin, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	configuration, err := os.ReadFile("examples/terraform/main.tf")
	if err != nil {
		return fmt.Errorf("the demo runs in the repository's top directory: %w", err)
	}
	// With an override, Terraform takes the provider as it lies there, and needs no `terraform init`.
	overrides := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"criu-docker/criu\" = %q\n  }\n  direct {}\n}\n", bin)
	settings := filepath.Join(dir, "terraform.rc")
	for file, content := range map[string][]byte{filepath.Join(dir, "main.tf"): configuration, settings: []byte(overrides)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return err
		}
	}
	argv := []string{"terraform", "-chdir=" + dir, "apply", "-input=false", "-auto-approve", "-compact-warnings", "-var=store=" + store}
	if !term.IsTerminal(int(os.Stdout.Fd())) {
		argv = append(argv, "-no-color")
	}
	return command(ctx, []string{"TF_CLI_CONFIG_FILE=" + settings, "CHECKPOINT_DISABLE=1"}, argv...)
}
