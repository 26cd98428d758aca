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

// sampleResults are those of a quick run on one CPU, without Podman.
func sampleResults() *results {
	r := summarise(map[series][]sample{
		{"redmine", 1, pathWarm}:  starts(true, 300, 200, 400),
		{"redmine", 1, pathEmpty}: starts(true, 1000, 1500),
		{"redmine", 1, pathCold}:  starts(false, 4000, 3000, 3500, 5000, 9000),
		{"tiny", 1, pathFloor}:    starts(false, 100),
	}, []size{{"redmine", sizeSnapshot, 34_000_000}, {"redmine", sizeMemory, 152_000_000}}, nil)
	r.machine = []string{"a machine", "its kernel"}
	return r
}

// crowdOf is a crowd whose containers take the given bytes each, at the last answer and when they are filled.
func crowdOf(ms int, answered, filled int64) []sample {
	return []sample{{total: time.Duration(ms) * time.Millisecond, answered: answered, filled: filled}}
}

// fullResults are those of a full run on two CPUs.
func fullResults() *results {
	r := summarise(map[series][]sample{
		{"redmine", 2, pathWarm}:     starts(true, 300, 200),
		{"redmine", 2, pathLazy}:     starts(true, 300, 200),
		{"redmine", 2, pathEager}:    starts(true, 450, 600),
		{"redmine", 2, pathEmpty}:    starts(true, 500, 500),
		{"redmine", 2, pathCold}:     starts(false, 3000, 3000),
		{"redmine", 2, pathPodman}:   starts(false, 900, 800),
		{"tiny", 2, pathFloor}:       starts(false, 200, 200),
		{"ballast-64m", 2, pathCold}: starts(false, 100), {"ballast-64m", 2, pathLazy}: starts(true, 200), {"ballast-64m", 2, pathEager}: starts(true, 200),
		{"ballast-1g", 2, pathCold}: starts(false, 900), {"ballast-1g", 2, pathLazy}: starts(true, 220), {"ballast-1g", 2, pathEager}: starts(true, 800),
		{"redmine", 2, "cold_x8"}: crowdOf(12000, 150e6, 150e6), {"redmine", 2, "hot_x2"}: crowdOf(400, 90e6, 90e6),
		{"redmine", 2, "hot_x8"}: crowdOf(2400, 40e6, 120e6), {"redmine", 2, pathApps}: crowdOf(3000, 50e6, 130e6),
	}, []size{
		{"redmine", sizeSnapshot, 30_000_000}, {"redmine", sizePodman, 25_000_000}, {"ballast-1g", sizeSnapshot, 270_000_000},
	}, map[string][]publication{"redmine": {
		{3 * time.Second, time.Second, 30e6}, {2 * time.Second, time.Second, 6e6}, {2500 * time.Millisecond, time.Second, 9e6},
	}})
	r.Targets = r.verdicts()
	r.machine = []string{"a machine"}
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

// A full run adds to it.
func TestJSONOfAFullRun(t *testing.T) {
	encoded, err := json.Marshal(fullResults())
	require.NoError(t, err)
	var r struct {
		Memory   []map[string]any
		Versions []map[string]any
		Targets  []map[string]any
	}
	require.NoError(t, json.Unmarshal(encoded, &r))
	assert.Contains(t, r.Memory, map[string]any{"app": "redmine", "cpus": 2., "path": "hot_x8", "answered_bytes": 40e6, "filled_bytes": 120e6})
	assert.Len(t, r.Memory, 4)
	assert.Equal(t, map[string]any{"app": "redmine", "version": 2., "ready_to_published_s": 2., "paused_s": 1., "new_bytes": 6e6}, r.Versions[1])
	assert.InDelta(t, 1.5, r.Targets[0]["max"], 1e-9)
	delete(r.Targets[0], "max")
	assert.Equal(t, map[string]any{
		"claim": "hot, warm cache ÷ floor", "app": "redmine", "cpus": 2., "value": 1.25, "min": 1.,
		"at_least": false, "must": 1.6, "must_met": true, "goal": 1.25, "goal_met": true,
	}, r.Targets[0])
}

// Each round is compared with itself, and only as many as both have.
func TestRatios(t *testing.T) {
	r := sampleResults()
	s, ok := r.ratios(series{"redmine", 1, pathCold}, series{"redmine", 1, pathWarm})
	require.True(t, ok)
	assert.InDelta(t, 4000./300, s.median, 1e-9)
	assert.InDelta(t, 3500./400, s.min, 1e-9)
	assert.InDelta(t, 3000./200, s.max, 1e-9)
	assert.Equal(t, "13.33× (8.75–15.00)", s.format("×"))
	assert.Equal(t, "2.00 s", spread{2, 2, 2}.format(" s"))
	_, ok = r.ratios(series{"redmine", 1, pathCold}, series{"redmine", 1, pathPodman})
	assert.False(t, ok)
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
	assert.Equal(t, [][]string{{
		"redmine", "1", "34.0 MB", "0.62 s", "4000.0 MB", "4.00 s", "1.25 s", "3.00× (2.00–4.00)", "0.30 s", "13.33× (8.75–15.00)",
	}}, cells(table, "redmine"))
	past := cells(table, "redmine, 2019")
	require.Len(t, past, 2)
	assert.Equal(t, []string{"redmine, 2019", "1", "24.3 MB", "2.02 s", "121 MB", "18.39 s", "6.33 s", "2.91×", absent, absent}, past[0])
	assert.NotContains(t, table, "fat-app") // 2019 stands beside what was measured only

	assert.Equal(t, [][]string{{"redmine", "1", "0.30 s", absent, absent, "0.10 s", "3.00×", "40.00×"}},
		cells(r.peers().RenderMarkdown(), "redmine"))
	assert.Equal(t, [][]string{{"redmine", "152.0 MB", "34.0 MB", absent, absent, absent}}, cells(r.sizeTable().RenderMarkdown(), "redmine"))
	assert.Equal(t, [][]string{{"tiny", "1", "floor", "1", "0.10 s", "0.10 s", "0.10 s"}}, cells(r.spread().RenderMarkdown(), "tiny"))
}

func TestTablesOfAFullRun(t *testing.T) {
	r := fullResults()
	assert.NotContains(t, r.starts().RenderMarkdown(), "ballast", "2019 knew none")
	memory := r.memoryTable().RenderMarkdown()
	assert.Equal(t, [][]string{{"redmine", "2", "3000.0 MB", "3.00 s", "0.25 s", "0.53 s", "2.25× (1.50–3.00)", "12.50× (10.00–15.00)"}}, cells(memory, "redmine"))
	assert.Equal(t, [][]string{{"ballast-1g", "2", "900.0 MB", "0.90 s", "0.22 s", "0.80 s", "3.64×", "4.09×"}}, cells(memory, "ballast-1g"))
	assert.Empty(t, cells(memory, "ballast-4g"))
	assert.Equal(t, [][]string{
		{"redmine", "cold boots", "8", "12.00 s", "1.00×", "150.0 MB", "150.0 MB"},
		{"redmine", "clones of one snapshot", "2", "0.40 s", absent, "90.0 MB", "90.0 MB"},
		{"redmine", "clones of one snapshot", "8", "2.40 s", "0.20×", "40.0 MB", "120.0 MB"},
		{"redmine", "clones of 8 snapshots", "8", "3.00 s", "0.25×", "50.0 MB", "130.0 MB"},
	}, cells(r.crowdTable().RenderMarkdown(), "redmine"))
	assert.Equal(t, [][]string{{"redmine", "3", "2.50 s (2.00–3.00)", "1.00 s", "30.0 MB", "7.5 MB", "0.25× (0.20–0.30)"}},
		cells(r.publicationTable().RenderMarkdown(), "redmine"))
	assert.Equal(t, [][]string{{"redmine", absent, "30.0 MB", "25.0 MB", "1.20×", absent}}, cells(r.sizeTable().RenderMarkdown(), "redmine"))
}

func TestTargets(t *testing.T) {
	table := fullResults().targetTable().RenderMarkdown()
	assert.Equal(t, [][]string{
		{"redmine", "hot, warm cache ÷ floor", "2", "1.25 (1.00–1.50)", "≤ 1.60", "met", "≤ 1.25", "met"},
		{"redmine", "cold ÷ hot, warm cache", "2", "12.50 (10.00–15.00)", "≥ 9.00", "met", "≥ 12.00", "met"},
		{"redmine", "cold ÷ hot, empty cache", "2", "6.00", "≥ 6.00", "met", "≥ 10.00", "missed"},
		{"redmine", "Podman restore ÷ hot, warm cache", "2", "3.50 (3.00–4.00)", "≥ 4.00", "missed", "≥ 6.00", "missed"},
		{"redmine", "8 clones at once ÷ 8 cold boots at once", "2", "0.20", "≤ 0.25", "met", "≤ 0.10", "missed"},
		{"redmine", "snapshot ÷ Podman's export", absent, "1.20", "≤ 1.10", "missed", "≤ 0.90", "missed"},
	}, cells(table, "redmine"))
	assert.Equal(t, [][]string{{"ballast-1g", "1 GB ÷ 64 MB, hot, lazy", "2", "1.10", "≤ 1.30", "met", "≤ 1.05", "missed"}}, cells(table, "ballast-1g"))

	for _, v := range sampleResults().verdicts() {
		assert.Contains(t, []string{"hot, warm cache ÷ floor", "cold ÷ hot, warm cache", "cold ÷ hot, empty cache"}, v.Claim, "the others were not measured")
	}
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
	assert.NotContains(t, terminal.String(), "Must and goal")
}

// What a run did not measure is not there, neither as a section nor as a chart of the run before.
func TestWriteWhatWasMeasured(t *testing.T) {
	dir := t.TempDir()
	r := fullResults()
	require.NoError(t, r.write(dir))
	page := read(t, filepath.Join(dir, "bench.md"))
	for _, table := range []string{r.targetTable().RenderMarkdown(), r.memoryTable().RenderMarkdown(), r.crowdTable().RenderMarkdown(), r.publicationTable().RenderMarkdown()} {
		assert.Contains(t, page, table)
	}
	for name := range pictures {
		assert.FileExists(t, filepath.Join(dir, name))
		assert.Contains(t, page, "("+name+")")
	}
	var terminal strings.Builder
	require.NoError(t, r.print(&terminal))
	assert.True(t, strings.HasSuffix(terminal.String(), r.targetTable().Render()+"\n"))

	require.NoError(t, sampleResults().write(dir))
	page = read(t, filepath.Join(dir, "bench.md"))
	assert.FileExists(t, filepath.Join(dir, "bench.svg"))
	for _, name := range []string{"bench-memory.svg", "bench-clones.svg"} {
		assert.NoFileExists(t, filepath.Join(dir, name))
		assert.NotContains(t, page, name)
	}
	assert.NotContains(t, page, "Must and goal")
}
