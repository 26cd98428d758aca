package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// outcome of one thing that was tried: "" if it wasn't, works, or what went wrong.
type outcome string

const works outcome = "yes"

func outcomeOf(err error) outcome {
	if err == nil {
		return works
	}
	var failure *criu.Failure
	if errors.As(err, &failure) {
		return outcome(failure.Error())
	}
	return outcome(strings.TrimSpace(err.Error()))
}

// result is what came of a row.
type result struct {
	Row     string
	Freezes outcome // it can be frozen, by default options
	Lazy    outcome // two clones at once answer, 20 times each, under hostnames of their own
	Eager   outcome // the same
	Restart outcome // by the engine: hot, and it answers
	Stop    outcome // with the exit code of a cold container
	Idle    outcome // takes no more of a processor than a cold container does
	Unique  outcome // two clones have nothing random in common
}

// column is one thing that is tried.
type column struct {
	name  string
	value func(*result) *outcome
}

var columns = []column{
	{"freezes", func(r *result) *outcome { return &r.Freezes }},
	{"lazy", func(r *result) *outcome { return &r.Lazy }},
	{"eager", func(r *result) *outcome { return &r.Eager }},
	{"restart", func(r *result) *outcome { return &r.Restart }},
	{"stop", func(r *result) *outcome { return &r.Stop }},
	{"idle", func(r *result) *outcome { return &r.Idle }},
	{"unique", func(r *result) *outcome { return &r.Unique }},
}

// failures are what went wrong, in the order of the columns, each once.
func (r result) failures() []string {
	var list []string
	seen := map[outcome]bool{"": true, works: true}
	for _, c := range columns {
		if o := *c.value(&r); !seen[o] {
			seen[o] = true
			list = append(list, c.name+": "+string(o))
		}
	}
	return list
}

// check reports a result that is not what the row expects.
func (r result) check(expected row) error {
	failures := strings.Join(r.failures(), "\n")
	switch {
	case r.Freezes == "" || (r.Freezes == works && r.Lazy == "" && r.Eager == ""):
		return fmt.Errorf("%s: it was not tried", expected.Name)
	case expected.Limit == "" && failures != "":
		return fmt.Errorf("%s: %s", expected.Name, failures)
	case expected.Limit != "" && failures == "":
		return fmt.Errorf("%s works: its limit %q is out of date", expected.Name, expected.Limit)
	case expected.Limit != "" && !regexp.MustCompile(expected.Limit).MatchString(failures):
		return fmt.Errorf("%s: want an error like %q: %s", expected.Name, expected.Limit, failures)
	}
	return nil
}

func (r result) String() string {
	if failures := r.failures(); len(failures) > 0 {
		return strings.Join(failures, "; ")
	}
	return string(works)
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func resultFile(dir, row string) string {
	return filepath.Join(dir, strings.Trim(notInNames.ReplaceAllString(strings.ToLower(row), "-"), "-")+".json")
}

// readResult returns an empty result for a row that was not tried yet.
func readResult(dir, row string) (result, error) {
	r := result{Row: row}
	b, err := os.ReadFile(resultFile(dir, row))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return r, nil
	case err != nil:
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", resultFile(dir, row), err)
	}
	return r, nil
}

func (r result) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(resultFile(dir, r.Row), append(b, '\n'), 0o644)
}
