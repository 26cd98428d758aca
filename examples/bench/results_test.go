package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// starts makes samples of the given times in ms; hot ones spend half of it on the download.
func starts(hot bool, ms ...int) []sample {
	var list []sample
	for _, n := range ms {
		s := sample{total: time.Duration(n) * time.Millisecond, rss: int64(n) * 1e6}
		if hot {
			s.fetch = s.total / 2
		}
		list = append(list, s)
	}
	return list
}

// sampleResults are those of a run on one CPU, without Podman.
func sampleResults() *results {
	r := summarise(map[series][]sample{
		{"redmine", 1, pathWarm}:  starts(true, 300, 200, 400),
		{"redmine", 1, pathEmpty}: starts(true, 1000, 1500),
		{"redmine", 1, pathCold}:  starts(false, 4000, 3000, 3500, 5000, 9000),
		{"tiny", 1, pathFloor}:    starts(false, 100),
	}, []size{{"redmine", sizeSnapshot, 34_000_000}, {"redmine", sizeMemory, 152_000_000}})
	r.machine = []string{"a machine", "its kernel"}
	return r
}

func TestMedian(t *testing.T) {
	assert.InDelta(t, 2.0, median([]float64{3, 1, 2}), 0)
	assert.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 0)
	assert.Equal(t, int64(7), median([]int64{7}))
	list := []time.Duration{3, 1, 2}
	median(list)
	assert.Equal(t, []time.Duration{3, 1, 2}, list)
}

// Programs read bench.json: its shape and names must not change.
func TestJSON(t *testing.T) {
	encoded, err := json.Marshal(sampleResults())
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"rows": [
			{"app": "redmine", "cpus": 1, "path": "cold", "n": 5, "median_s": 4, "min_s": 3, "max_s": 9},
			{"app": "redmine", "cpus": 1, "path": "hot_empty", "n": 2, "median_s": 1.25, "min_s": 1, "max_s": 1.5},
			{"app": "redmine", "cpus": 1, "path": "hot_warm", "n": 3, "median_s": 0.3, "min_s": 0.2, "max_s": 0.4},
			{"app": "tiny", "cpus": 1, "path": "floor", "n": 1, "median_s": 0.1, "min_s": 0.1, "max_s": 0.1}
		],
		"sizes": [
			{"app": "redmine", "path": "memory", "bytes": 152000000},
			{"app": "redmine", "path": "snapshot", "bytes": 34000000}
		]
	}`, string(encoded))
}

// cells returns the cells of the lines of a Markdown table that begin with a name.
func cells(table, name string) [][]string {
	var lines [][]string
	for line := range strings.Lines(table) {
		var row []string
		for _, cell := range strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		if row[0] == name {
			lines = append(lines, row)
		}
	}
	return lines
}

func TestTables(t *testing.T) {
	r := sampleResults()
	table := r.starts().RenderMarkdown()
	assert.Equal(t, [][]string{{"redmine", "1", "34.0 MB", "0.62 s", "4000.0 MB", "4.00 s", "1.25 s", "3.20×", "0.30 s", "13.33×"}},
		cells(table, "redmine"))
	past := cells(table, "redmine, 2019")
	require.Len(t, past, 2)
	assert.Equal(t, []string{"redmine, 2019", "1", "24.3 MB", "2.02 s", "121 MB", "18.39 s", "6.33 s", "2.91×", absent, absent}, past[0])
	assert.NotContains(t, table, "fat-app") // 2019 stands beside what was measured only

	assert.Equal(t, [][]string{{"redmine", "1", "0.30 s", absent, absent, "0.10 s", "3.00×", "40.00×"}},
		cells(r.peers().RenderMarkdown(), "redmine"))
	assert.Equal(t, [][]string{{"redmine", "152.0 MB", "34.0 MB", absent, absent}}, cells(r.sizeTable().RenderMarkdown(), "redmine"))
	assert.Equal(t, [][]string{{"tiny", "1", "floor", "1", "0.10 s", "0.10 s", "0.10 s"}}, cells(r.spread().RenderMarkdown(), "tiny"))
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	r := sampleResults()
	require.NoError(t, r.write(dir))
	page, err := os.ReadFile(filepath.Join(dir, "bench.md"))
	require.NoError(t, err)
	for _, want := range []string{"- a machine\n- its kernel\n", r.starts().RenderMarkdown(), r.peers().RenderMarkdown(), r.sizeTable().RenderMarkdown(), r.spread().RenderMarkdown()} {
		assert.Contains(t, string(page), want)
	}
	encoded, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	require.NoError(t, err)
	var back results
	require.NoError(t, json.Unmarshal(encoded, &back))
	assert.Equal(t, r.Rows, back.Rows)
	assert.Equal(t, r.Sizes, back.Sizes)
	assert.FileExists(t, filepath.Join(dir, "bench.svg"))

	var terminal strings.Builder
	require.NoError(t, r.print(&terminal))
	assert.Contains(t, terminal.String(), r.starts().Render())
}
