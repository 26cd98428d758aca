package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
)

// A section of a document stands between two lines that name it, so that a program can put another in its place.
const (
	startsSection = "table" // in the page, where it comes from, and in the README
	demoSection   = "demo"  // in the README
)

// publish copies the results of the last runs into the documentation: the page and the charts into docs, the page's table
// of starts and what the demo found into the README. No figures are copied by hand.
func publish(results, checkout string) error {
	contents := map[string][]byte{}
	for _, name := range append(slices.Sorted(maps.Keys(pictures)), "bench.md", "demo.txt") {
		content, err := os.ReadFile(filepath.Join(results, name))
		if err != nil {
			return fmt.Errorf("results to publish (run make demo, then make bench, first): %w", err)
		}
		contents[name] = content
	}
	_, starts, _, err := section(contents["bench.md"], startsSection)
	if err != nil {
		return fmt.Errorf("bench.md: %w", err)
	}
	readme, err := os.ReadFile(filepath.Join(checkout, "README.md"))
	if err != nil {
		return fmt.Errorf("README: %w", err)
	}
	found := slices.Concat([]byte("```\n"), contents["demo.txt"], []byte("```\n"))
	for name, content := range map[string][]byte{startsSection: starts, demoSection: found} {
		before, _, after, err := section(readme, name)
		if err != nil {
			return fmt.Errorf("README.md: %w", err)
		}
		readme = slices.Concat(before, content, after)
	}
	published := map[string][]byte{"README.md": readme, "docs/benchmarks.md": contents["bench.md"]}
	for name := range pictures {
		published[filepath.Join("docs", name)] = contents[name]
	}
	for name, content := range published {
		if err := renameio.WriteFile(filepath.Join(checkout, name), content, 0o644); err != nil {
			return fmt.Errorf("publish results: %w", err)
		}
	}
	return nil
}

// section cuts a document at one of its sections; the lines that mark it belong to what is before and after.
func section(doc []byte, name string) (before, content, after []byte, err error) {
	first, last := []byte("<!-- "+name+": begin -->\n"), []byte("<!-- "+name+": end -->\n")
	begin, end := bytes.Index(doc, first), bytes.Index(doc, last)
	if begin < 0 || end < begin {
		return nil, nil, nil, fmt.Errorf("the lines %q and %q are not there, in this order", first, last)
	}
	begin += len(first)
	return doc[:begin], doc[begin:end], doc[end:], nil
}
