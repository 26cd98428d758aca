package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// outcome is what came of one step.
type outcome struct {
	Works   bool    `json:"works"`
	Note    string  `json:"note,omitempty"` // what could not be tried here, or why it failed
	Seconds float64 `json:"seconds"`
}

// result is what came of a lane, by the names of steps. A step that is not in it was not tried.
type result struct {
	Versions map[string]string  `json:"versions"`
	Steps    map[string]outcome `json:"steps"`
}

func readResult(out, lane string) (result, error) {
	r := result{Versions: map[string]string{}, Steps: map[string]outcome{}}
	b, err := os.ReadFile(resultFile(out, lane))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", resultFile(out, lane), err)
	}
	return r, nil
}

func (r result) write(out, lane string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(resultFile(out, lane), append(b, '\n'), 0o644)
}

func resultFile(out, lane string) string { return filepath.Join(out, lane+".json") }

// note adds an outcome. What was noted of a step before stays, unless it is of the same step once more.
func (r *result) note(step string, began time.Time, note string, err error) {
	o := outcome{Works: err == nil, Note: note, Seconds: time.Since(began).Seconds()}
	if err != nil {
		o.Note = err.Error()
	}
	r.Steps[step] = o
}

// check reports the steps that failed, and those that were not tried and should have been.
func (r result) check(l lane) error {
	var wrong []error
	for _, s := range steps {
		o, tried := r.Steps[s.Name]
		switch {
		case !tried && s.packages && !l.Packages:
		case !tried:
			wrong = append(wrong, fmt.Errorf("%s: %s: it was not tried", l.Name, s.Name))
		case !o.Works:
			wrong = append(wrong, fmt.Errorf("%s: %s: %s", l.Name, s.Name, o.Note))
		}
	}
	return errors.Join(wrong...)
}
