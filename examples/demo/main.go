// Command demo shows the main job from end to end, as its users do it: `terraform apply` publishes snapshots of two
// applications, `nomad job run` starts allocations from them and, beside these, cold ones; then it checks what it claims:
// every allocation answers, each has its own hostname, and the clones did not boot. It runs where Docker, CRIU and a Nomad
// agent are, from the repository's top directory, and leaves the snapshots but no job.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/nomad/api"
)

// app is a job of examples/nomad.
type app struct {
	job      string
	path     string // answers 200
	bootLine string // what the app writes when it boots, and only then
}

var apps = []app{
	{"redmine", "/login", "Puma starting"},
	{"fat-app", "/", "Puma starting"},
}

// stopTimeout bounds the end of a job, which goes on after ctrl-C.
const stopTimeout = 2 * time.Minute

func main() {
	store := flag.String("store", "gs://snapshots", "store that Terraform publishes to; the Nomad client's driver must know it as its own")
	dir := flag.String("dir", "/var/lib/criu-docker/demo", "directory for Terraform's state; where the bucket is, since it tells what is in there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *store, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, store, dir string) (err error) {
	if err := publish(ctx, store, dir); err != nil {
		return err
	}
	nomad, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopJobs(ctx, nomad)) }()
	var rows []row
	for _, a := range apps {
		if err := command(ctx, nil, "nomad", "job", "run", filepath.Join("examples", "nomad", a.job+".nomad.hcl")); err != nil {
			return err
		}
		checked, err := check(ctx, nomad, a)
		if err != nil {
			return fmt.Errorf("%s: %w", a.job, err)
		}
		rows = append(rows, checked...)
	}
	if err := distinct(rows); err != nil {
		return err
	}
	show(os.Stdout, rows)
	return nil
}

// stopJobs ends the jobs, those of an interrupted run too, and returns when their allocations have ended.
func stopJobs(ctx context.Context, nomad *api.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	fmt.Println("\nStopping the jobs.")
	for _, a := range apps {
		if _, _, err := nomad.Jobs().Deregister(a.job, true, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
			return fmt.Errorf("stop job %s: %w", a.job, err)
		}
	}
	for _, a := range apps {
		if err := awaitEnd(ctx, nomad, a.job); err != nil {
			return fmt.Errorf("stop job %s: %w", a.job, err)
		}
	}
	return nil
}

func awaitEnd(ctx context.Context, nomad *api.Client, job string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		list, _, err := nomad.Jobs().Allocations(job, true, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, alive) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("its allocations do not end: %w", ctx.Err())
		}
	}
}

func alive(a *api.AllocationListStub) bool {
	return a.ClientStatus == api.AllocClientStatusPending || a.ClientStatus == api.AllocClientStatusRunning
}

// command runs a program for everybody to see.
func command(ctx context.Context, env []string, argv ...string) error {
	fmt.Printf("\n$ %s\n", strings.Join(argv, " "))
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it has begun
	cmd.WaitDelay = stopTimeout
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}
