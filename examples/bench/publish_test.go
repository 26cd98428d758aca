package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, file, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(content)
}

func TestPublish(t *testing.T) {
	out, checkout := t.TempDir(), t.TempDir()
	readme := filepath.Join(checkout, "README.md")
	page := func(demo, table string) string {
		return "# Name\n<!-- demo: begin -->\n" + demo + "<!-- demo: end -->\nmore\n<!-- table: begin -->\n" + table + "<!-- table: end -->\nend\n"
	}
	write(t, filepath.Join(checkout, "docs/benchmarks.md"), "old")
	write(t, readme, page("old\n", ""))

	require.NoError(t, sampleResults().write(out))
	write(t, filepath.Join(out, "demo.txt"), "all is well\n")
	assert.ErrorContains(t, publish(out, checkout), "then make bench", "the demo measures too little")
	assert.Equal(t, "old", read(t, filepath.Join(checkout, "docs/benchmarks.md")))
	r := fullResults()
	require.NoError(t, r.write(out))
	for range 2 {
		require.NoError(t, publish(out, checkout))
		assert.Equal(t, page("```\nall is well\n```\n", r.starts().RenderMarkdown()+"\n"), read(t, readme))
		assert.Equal(t, read(t, filepath.Join(out, "bench.md")), read(t, filepath.Join(checkout, "docs/benchmarks.md")))
		for name := range pictures {
			assert.Equal(t, read(t, filepath.Join(out, name)), read(t, filepath.Join(checkout, "docs", name)))
		}
	}

	write(t, readme, "# Name\n<!-- table: end -->\n<!-- table: begin -->\n")
	assert.ErrorContains(t, publish(out, checkout), "README.md")
}

// The README shows the table of docs/benchmarks.md, which is of one run.
func TestDocumentsAgree(t *testing.T) {
	var tables []string
	for _, file := range []string{"../../README.md", "../../docs/benchmarks.md"} {
		_, table, _, err := section([]byte(read(t, file)), startsSection)
		require.NoError(t, err, file)
		tables = append(tables, string(table))
	}
	assert.Contains(t, tables[0], "redmine")
	assert.Equal(t, tables[0], tables[1])
	assert.Equal(t, "http://www.w3.org/2000/svg svg", parseSVG(t, []byte(read(t, "../../docs/bench.svg"))).root)
}
