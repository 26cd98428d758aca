package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// The lines around the table that the page and the README share.
const (
	tableBegin = "<!-- table: begin -->\n"
	tableEnd   = "<!-- table: end -->\n"
)

// publish copies the results of the last run into the documentation: the page and the chart into docs, and the page's
// first table into the README. Nobody copies figures by hand.
func publish(results, checkout string) error {
	page, err := os.ReadFile(filepath.Join(results, "bench.md"))
	if err != nil {
		return fmt.Errorf("results to publish (run make bench first): %w", err)
	}
	chart, err := os.ReadFile(filepath.Join(results, "bench.svg"))
	if err != nil {
		return fmt.Errorf("results to publish (run make bench first): %w", err)
	}
	_, table, _, err := aroundTable(page)
	if err != nil {
		return fmt.Errorf("bench.md: %w", err)
	}
	readme, err := os.ReadFile(filepath.Join(checkout, "README.md"))
	if err != nil {
		return fmt.Errorf("README: %w", err)
	}
	before, _, after, err := aroundTable(readme)
	if err != nil {
		return fmt.Errorf("README.md: %w", err)
	}
	for name, content := range map[string][]byte{
		"README.md":          bytes.Join([][]byte{before, table, after}, nil),
		"docs/benchmarks.md": page,
		"docs/bench.svg":     chart,
	} {
		if err := renameio.WriteFile(filepath.Join(checkout, name), content, 0o644); err != nil {
			return fmt.Errorf("publish results: %w", err)
		}
	}
	return nil
}

// aroundTable cuts a document at its table; the marks belong to what is before and after.
func aroundTable(doc []byte) (before, table, after []byte, err error) {
	begin := bytes.Index(doc, []byte(tableBegin))
	end := bytes.Index(doc, []byte(tableEnd))
	if begin < 0 || end < begin {
		return nil, nil, nil, fmt.Errorf("the lines %q and %q are not there, in this order", tableBegin, tableEnd)
	}
	begin += len(tableBegin)
	return doc[:begin], doc[begin:end], doc[end:], nil
}
