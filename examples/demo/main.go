// Command demo shows the main job from end to end, as its users do it: `terraform apply` publishes snapshots of two
// applications, `nomad job run` starts allocations from them and, beside these, cold ones; then it checks what it claims:
// every allocation answers, each has its own hostname, and the clones did not boot. It runs where Docker, CRIU and a Nomad
// agent are, from the repository's top directory, and leaves the snapshots but no job.
package main

import (
	"bytes"
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
	"golang.org/x/sync/errgroup"
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
	out := flag.String("out", "out", "directory for a copy of the table that is printed at the end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *store, *dir, *out); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, store, dir, out string) (err error) {
	if err := publish(ctx, store, dir); err != nil {
		return err
	}
	nomad, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return err
	}
	if err := stopJobs(ctx, nomad); err != nil { // of a run that was killed
		return err
	}
	defer func() {
		fmt.Println("\nStopping the jobs.")
		err = errors.Join(err, stopJobs(ctx, nomad))
	}()
	var rows []row
	for _, a := range apps {
		checked, err := start(ctx, nomad, a)
		if err != nil {
			return fmt.Errorf("%s: %w", a.job, err)
		}
		rows = append(rows, checked...)
	}
	if err := distinct(rows); err != nil {
		return err
	}
	var table bytes.Buffer
	show(&table, rows)
	fmt.Printf("\n%s", table.Bytes())
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "demo.txt"), table.Bytes(), 0o644)
}

// start runs a job and checks its allocations.
func start(ctx context.Context, nomad *api.Client, a app) ([]row, error) {
	var answered map[string]time.Time
	started, jobCtx := errgroup.WithContext(ctx)
	started.Go(func() (err error) {
		answered, err = firstAnswers(jobCtx, nomad, a)
		return err
	})
	started.Go(func() error {
		return command(jobCtx, nil, "nomad", "job", "run", filepath.Join("examples", "nomad", a.job+".nomad.hcl"))
	})
	if err := started.Wait(); err != nil {
		return nil, err
	}
	return check(ctx, nomad, a, answered)
}

// stopJobs ends the jobs and returns when their allocations have ended.
func stopJobs(ctx context.Context, nomad *api.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
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
	err := every(ctx, 200*time.Millisecond, func() (bool, error) {
		list, _, err := nomad.Jobs().Allocations(job, true, (&api.QueryOptions{}).WithContext(ctx))
		return err == nil && !slices.ContainsFunc(list, alive), err
	})
	if err != nil {
		return fmt.Errorf("await the end of its allocations: %w", err)
	}
	return nil
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
