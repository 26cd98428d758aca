package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/nomad/api"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// What every job of examples/nomad consists of.
const (
	hotGroup   = "hot"
	coldGroup  = "cold"
	task       = "app"
	portLabel  = "http"
	hotAllocs  = 2
	coldAllocs = 1
)

// row is one allocation that holds what the demo promises.
type row struct {
	job, alloc string
	start      restore.Start
	took       time.Duration // from the task's setup to the first 200
	hostname   string
	status     string // of an answer
	event      string // how the driver started it
}

// check looks at a job's allocations, which have answered for the first time at the given times.
func check(ctx context.Context, nomad *api.Client, a app, answered map[string]time.Time) ([]row, error) {
	query := (&api.QueryOptions{}).WithContext(ctx)
	list, _, err := nomad.Jobs().Allocations(a.job, false, query)
	if err != nil {
		return nil, err
	}
	var rows []row
	count := map[string]int{}
	for _, stub := range list {
		if stub.ClientStatus != api.AllocClientStatusRunning {
			continue // of an earlier run
		}
		alloc, _, err := nomad.Allocations().Info(stub.ID, query)
		if err != nil {
			return nil, err
		}
		r, err := checkAlloc(ctx, nomad, a, alloc)
		if err != nil {
			return nil, fmt.Errorf("allocation %.8s of group %s: %w", alloc.ID, alloc.TaskGroup, err)
		}
		r.took = answered[alloc.ID].Sub(setUp(alloc))
		rows = append(rows, r)
		count[alloc.TaskGroup]++
	}
	if count[hotGroup] != hotAllocs || count[coldGroup] != coldAllocs {
		return nil, fmt.Errorf("%d hot and %d cold allocations run: want %d and %d", count[hotGroup], count[coldGroup], hotAllocs, coldAllocs)
	}
	slices.SortFunc(rows, func(x, y row) int { // hot before cold
		return cmp.Or(cmp.Compare(y.start, x.start), cmp.Compare(x.alloc, y.alloc))
	})
	return rows, nil
}

func checkAlloc(ctx context.Context, nomad *api.Client, a app, alloc *api.Allocation) (row, error) {
	r := row{job: a.job, alloc: alloc.ID[:8]}
	var err error
	if r.start, r.event, err = startOf(alloc); err != nil {
		return r, err
	}
	if want := restore.Start(alloc.TaskGroup); r.start != want {
		return r, fmt.Errorf("it was started %s: %s", r.start, r.event)
	}
	log, err := output(nomad, alloc)
	if err != nil {
		return r, err
	}
	if booted := strings.Contains(log, a.bootLine); booted != (r.start == restore.Cold) {
		return r, fmt.Errorf("it was started %s, but %q in its log: %t", r.start, a.bootLine, booted)
	}
	if r.hostname, err = hostname(ctx, nomad, alloc); err != nil {
		return r, err
	}
	r.status, err = get(ctx, alloc, a.path)
	return r, err
}

// startOf reads the driver's last word on how the task was started.
func startOf(alloc *api.Allocation) (start restore.Start, event string, err error) {
	state := alloc.TaskStates[task]
	if state == nil {
		return "", "", errors.New("it has no task " + task)
	}
	for _, e := range state.Events {
		if s := e.Details["start"]; s != "" {
			ref := e.Details["snapshot"]
			start, event = restore.Start(s), strings.Replace(e.DisplayMessage, ref, shortened(ref), 1)
		}
	}
	if start == "" {
		return "", "", errors.New("the driver has not told how it was started")
	}
	return start, event, nil
}

// setUp returns when the client began to set the task up, for the first time.
func setUp(alloc *api.Allocation) time.Time {
	for _, e := range alloc.TaskStates[task].Events {
		if e.Type == api.TaskSetup {
			return time.Unix(0, e.Time)
		}
	}
	return time.Unix(0, alloc.CreateTime)
}

// shortened is a ref as people read it: the beginning of the image's id stands for the whole.
func shortened(ref string) string {
	const digits = 12
	return ref[:min(len(ref), digits)]
}

// output returns what the task has written.
func output(nomad *api.Client, alloc *api.Allocation) (string, error) {
	var b strings.Builder
	for _, stream := range []string{"stdout", "stderr"} {
		cancel := make(chan struct{})
		frames, errs := nomad.AllocFS().Logs(alloc, false, task, stream, api.OriginStart, 0, cancel, nil)
		err := collect(&b, frames, errs)
		close(cancel)
		if err != nil {
			return "", fmt.Errorf("its log: %w", err)
		}
	}
	return b.String(), nil
}

func collect(w io.Writer, frames <-chan *api.StreamFrame, errs <-chan error) error {
	for {
		select {
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			if _, err := w.Write(f.Data); err != nil {
				return err
			}
		case err := <-errs:
			return err
		}
	}
}

func hostname(ctx context.Context, nomad *api.Client, alloc *api.Allocation) (string, error) {
	var out, errOut bytes.Buffer
	code, err := nomad.Allocations().Exec(ctx, alloc, task, false, []string{"hostname"}, &bytes.Buffer{}, &out, &errOut, nil, nil)
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, errOut.String())
	}
	if err != nil {
		return "", fmt.Errorf("hostname: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}
