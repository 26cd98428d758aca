package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/nomad/api"
)

var (
	//go:embed main.tf
	configuration string
	//go:embed tiny.nomad.hcl
	job string
)

// bucket is what Nomad's driver restores from.
const bucket = "gs://snapshots"

// terraform publishes what the job of the next step starts from; that step takes it away again.
func (h *host) terraform(ctx context.Context) (string, error) {
	return "", h.withTerraform(ctx, "apply")
}

// withTerraform keeps its state from step to step.
func (h *host) withTerraform(ctx context.Context, verb string) error {
	const dir = "/var/lib/hosts-terraform"
	settings := filepath.Join(dir, "terraform.rc")
	overrides := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"criu-docker/criu\" = %q\n  }\n  direct {}\n}\n", h.bin)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for path, content := range map[string]string{filepath.Join(dir, "main.tf"): configuration, settings: overrides} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "terraform", "-chdir="+dir, verb, "-input=false", "-auto-approve", "-no-color", "-compact-warnings")
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+settings, "CHECKPOINT_DISABLE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("terraform %s: %w: %s", verb, err, out)
	}
	if verb == "destroy" {
		return os.RemoveAll(dir)
	}
	return nil
}

// nomad runs the job, looks at its allocations, stops it, and has Terraform destroy what it started from.
func (h *host) nomad(ctx context.Context) (note string, err error) {
	file := filepath.Join(h.dir, "tiny.nomad.hcl")
	if err := os.WriteFile(file, []byte(job), 0o644); err != nil {
		return "", err
	}
	defer func() {
		// The end of a step's time must not leave a job behind.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.patience)
		defer cancel()
		if serr := quiet(ctx, "nomad", "job", "stop", "-purge", "tiny"); serr != nil {
			err = errors.Join(err, serr)
			return
		}
		err = errors.Join(err, eventually(ctx, func() error { // it does not wait for that
			left, err := output(ctx, "docker", "ps", "-q", "--filter", "name=app-")
			if err == nil && left != "" {
				err = fmt.Errorf("tasks of a job that was stopped: %s", left)
			}
			return err
		}))
		err = errors.Join(err, h.withTerraform(ctx, "destroy"))
		left, lerr := refs(ctx, bucket)
		if len(left) > 0 {
			lerr = fmt.Errorf("after terraform destroy, the store has %q", left)
		}
		err = errors.Join(err, lerr)
	}()
	if err := quiet(ctx, "nomad", "job", "run", file); err != nil {
		return "", err
	}
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return "", err
	}
	query := (&api.QueryOptions{}).WithContext(ctx)
	list, _, err := client.Jobs().Allocations("tiny", false, query)
	if err != nil {
		return "", err
	}
	count := map[string]int{}
	for _, stub := range list {
		alloc, _, err := client.Allocations().Info(stub.ID, query)
		if err != nil {
			return "", err
		}
		if err := h.allocation(ctx, alloc); err != nil {
			return "", fmt.Errorf("allocation %.8s of %s: %w", alloc.ID, alloc.TaskGroup, err)
		}
		count[alloc.TaskGroup]++
	}
	if count["hot"] != 2 || count["cold"] != 1 {
		return "", fmt.Errorf("%d hot and %d cold allocations, want 2 and 1", count["hot"], count["cold"])
	}
	return "", nil
}

// allocation checks that one answers, under its own hostname, and was started as its group says.
func (h *host) allocation(ctx context.Context, alloc *api.Allocation) error {
	var started string
	for _, e := range alloc.TaskStates["app"].Events {
		if how := e.Details["start"]; how != "" {
			started = how
		}
	}
	if started != alloc.TaskGroup {
		return fmt.Errorf("it was started %q", started)
	}
	hostname, err := output(ctx, "nomad", "alloc", "exec", "-task", "app", alloc.ID, "hostname")
	if want := "app-" + alloc.ID[:8]; err != nil || hostname != want {
		return errors.Join(err, fmt.Errorf("its hostname is %q, want %s", hostname, want))
	}
	for _, port := range alloc.AllocatedResources.Shared.Ports {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := getFrom(short, net.JoinHostPort(port.HostIP, strconv.Itoa(port.Value)))
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
