package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/template"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// past is a row of the 2019 experiment: Kir Shatrov, "Boosting application boot time with container snapshots".
type past struct {
	app      string
	cpus     int
	snapshot float64 // MB, gzip
	download float64 // s
	rss      int     // MB
	cold     float64 // s
	hot      float64 // s, with the download
}

var experiment2019 = []past{
	{"fat-app", 1, 44.3, 2.16, 191, 18.58, 7.96},
	{"fat-app", 16, 44.3, 1.94, 191, 20.60, 6.34},
	{"redmine", 1, 24.3, 2.02, 121, 18.39, 6.33},
	{"redmine", 16, 24.3, 1.95, 121, 13.48, 3.71},
}

// absent stands where nothing was measured.
const absent = "–"

// starts is the table of 2019, with its figures below those of this run.
func (r *results) starts() table.Writer {
	t := newTable(2, "app", "CPUs", "snapshot", "download", "RSS", "cold", "hot, empty cache", "boost", "hot, warm cache", "boost")
	seen := ""
	for _, m := range r.measured() {
		if seen != "" && seen != m.app {
			append2019(t, seen)
			t.AppendSeparator()
		}
		seen = m.app
		empty := series{m.app, m.cpus, pathEmpty}
		t.AppendRow(table.Row{
			m.app, m.cpus, r.size(m.app, sizeSnapshot), fmt.Sprintf("%.2f s", r.download[empty].Seconds()),
			megabytes(r.rss[series{m.app, m.cpus, pathCold}]),
			r.seconds(m, pathCold), r.seconds(m, pathEmpty), r.ratio(m, pathCold, m, pathEmpty),
			r.seconds(m, pathWarm), r.ratio(m, pathCold, m, pathWarm),
		})
	}
	append2019(t, seen)
	return t
}

func append2019(t table.Writer, app string) {
	for _, p := range experiment2019 {
		if p.app == app {
			t.AppendRow(table.Row{
				p.app + ", 2019", p.cpus, fmt.Sprintf("%.1f MB", p.snapshot), fmt.Sprintf("%.2f s", p.download),
				strconv.Itoa(p.rss) + " MB", fmt.Sprintf("%.2f s", p.cold), fmt.Sprintf("%.2f s", p.hot),
				fmt.Sprintf("%.2f×", p.cold/p.hot), absent, absent,
			})
		}
	}
}

// peers compares with Podman's restore and with the floor.
func (r *results) peers() table.Writer {
	t := newTable(2, "app", "CPUs", "hot, warm cache", "Podman restore", "Podman ÷ hot", "floor", "hot ÷ floor", "cold ÷ floor")
	for _, m := range r.measured() {
		ground := series{app: floor.name, cpus: m.cpus}
		t.AppendRow(table.Row{
			m.app, m.cpus, r.seconds(m, pathWarm), r.seconds(m, pathPodman), r.ratio(m, pathPodman, m, pathWarm),
			r.seconds(ground, pathFloor), r.ratio(m, pathWarm, ground, pathFloor), r.ratio(m, pathCold, ground, pathFloor),
		})
	}
	return t
}

// memoryTable compares the ways in which memory comes back, by how much of it an app has.
func (r *results) memoryTable() table.Writer {
	t := newTable(2, "app", "CPUs", "RSS", "cold", "hot, lazy", "hot, eager", "eager ÷ lazy", "cold ÷ lazy")
	add := func(m series) {
		t.AppendRow(table.Row{
			m.app, m.cpus, megabytes(r.rss[series{m.app, m.cpus, pathCold}]),
			r.seconds(m, pathCold), r.seconds(m, pathLazy), r.seconds(m, pathEager),
			r.ratio(m, pathEager, m, pathLazy), r.ratio(m, pathCold, m, pathLazy),
		})
	}
	for _, m := range r.measured() {
		if _, ok := r.median(m.app, m.cpus, pathLazy); ok {
			add(m)
		}
	}
	for _, a := range ballasts {
		if _, ok := r.median(a.name, r.allCPUs(), pathLazy); ok {
			add(series{app: a.name, cpus: r.allCPUs()})
		}
	}
	return t
}

// crowdTable is about many starts at once.
func (r *results) crowdTable() table.Writer {
	t := newTable(2, "app", "started at once", "containers", "last answer", "÷ as many cold boots", "memory of each, at the last answer", "memory of each, when filled")
	m := series{app: crowdApp, cpus: r.allCPUs()}
	add := func(what, path string, n int) {
		if _, ok := r.median(m.app, m.cpus, path); !ok {
			return
		}
		answered, filled := absent, absent
		for _, taken := range r.Memory {
			if taken.App == m.app && taken.Path == path {
				answered, filled = megabytes(taken.Answered), megabytes(taken.Filled)
			}
		}
		compared := absent
		if n == crowd {
			compared = r.ratio(m, path, m, crowdPath(pathCold, crowd))
		}
		t.AppendRow(table.Row{m.app, what, n, r.seconds(m, path), compared, answered, filled})
	}
	add("cold boots", crowdPath(pathCold, crowd), crowd)
	for _, n := range crowds {
		add("clones of one snapshot", crowdPath("hot", n), n)
	}
	add(fmt.Sprintf("clones of %d snapshots", crowd), pathApps, crowd)
	return t
}

// publicationTable says what publishing takes, and what a further version of the same snapshot adds to the store.
func (r *results) publicationTable() table.Writer {
	t := newTable(1, "app", "n", "ready → published", "of that frozen", "new in the store", "with a further version", "further ÷ first")
	for _, a := range services {
		var published, paused, shares []float64
		var first int64
		var further []int64
		for _, v := range r.Versions {
			if v.App != a.name {
				continue
			}
			published, paused = append(published, v.Published), append(paused, v.Paused)
			if v.Version == 1 {
				first = v.Fresh
				continue
			}
			further, shares = append(further, v.Fresh), append(shares, float64(v.Fresh)/float64(first))
		}
		if len(further) == 0 {
			continue
		}
		t.AppendRow(table.Row{
			a.name, len(published), spreadOf(published).format(" s"), spreadOf(paused).format(" s"),
			megabytes(first), megabytes(median(further)), spreadOf(shares).format("×"),
		})
	}
	return t
}

// targetTable holds the run against what the project sets out to reach.
func (r *results) targetTable() table.Writer {
	t := newTable(2, "app", "ratio", "CPUs", "measured", "must", "", "goal", "")
	for _, v := range r.Targets {
		sign := "≤"
		if v.AtLeast {
			sign = "≥"
		}
		cpus := absent
		if v.CPUs > 0 {
			cpus = strconv.Itoa(v.CPUs)
		}
		bound := func(n float64) string { return fmt.Sprintf("%s %.2f", sign, n) }
		t.AppendRow(table.Row{
			v.App, v.Claim, cpus, spread{v.Value, v.Min, v.Max}.format(""),
			bound(v.Must), metOrMissed(v.MustMet), bound(v.Goal), metOrMissed(v.GoalMet),
		})
	}
	return t
}

func metOrMissed(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

func (r *results) sizeTable() table.Writer {
	t := newTable(1, "app", "memory image", "snapshot", "Podman's export", "snapshot ÷ export", "tar.gz")
	for _, a := range slices.Concat(services, ballasts) {
		if _, ok := r.bytes(a.name, sizeSnapshot); !ok {
			continue
		}
		compared := absent
		if ratio, ok := r.sizeRatio(a.name, sizeSnapshot, sizePodman); ok {
			compared = fmt.Sprintf("%.2f×", ratio)
		}
		t.AppendRow(table.Row{
			a.name, r.size(a.name, sizeMemory), r.size(a.name, sizeSnapshot), r.size(a.name, sizePodman), compared, r.size(a.name, sizeTarGzip),
		})
	}
	return t
}

func (r *results) spread() table.Writer {
	t := newTable(3, "app", "CPUs", "path", "n", "median", "min", "max")
	for _, row := range r.Rows {
		t.AppendRow(table.Row{
			row.App, row.CPUs, row.Path, row.N, fmt.Sprintf("%.2f s", row.Median),
			fmt.Sprintf("%.2f s", row.Min), fmt.Sprintf("%.2f s", row.Max),
		})
	}
	return t
}

// print writes what a reader at a terminal wants to see.
func (r *results) print(w io.Writer) error {
	for _, part := range []struct {
		title string
		table table.Writer
	}{
		{"Start to first HTTP 200, medians; ratios are medians over the rounds, with the least and the greatest.\n2019: the experiment that this project grew from.", r.starts()},
		{"Peers, in the same run.", r.peers()},
		{"Sizes.", r.sizeTable()},
		{"Lazy and eager memory, by how much of it an app has.", r.memoryTable()},
		{"Many at once.", r.crowdTable()},
		{"Publishing.", r.publicationTable()},
		{"Must and goal.", r.targetTable()},
	} {
		if part.table.Length() == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s\n%s\n", part.title, part.table.Render()); err != nil {
			return err
		}
	}
	return nil
}

//go:embed page.md.tmpl
var pageTemplate string

// page is the whole report in Markdown. What was not measured has no section.
func (r *results) page() ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	sections := map[string]any{"Machine": r.machine}
	for name, part := range map[string]table.Writer{
		"Starts": r.starts(), "Peers": r.peers(), "Sizes": r.sizeTable(), "Memory": r.memoryTable(), "Crowds": r.crowdTable(),
		"Publications": r.publicationTable(), "Targets": r.targetTable(), "Spread": r.spread(),
	} {
		sections[name] = ""
		if part.Length() > 0 {
			sections[name] = part.RenderMarkdown()
		}
	}
	var b bytes.Buffer
	err = t.Execute(&b, sections)
	return b.Bytes(), err
}

// newTable aligns all but the first columns to the right, as numbers are read.
func newTable(names int, header ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	var row table.Row
	var columns []table.ColumnConfig
	for i, h := range header {
		row = append(row, h)
		if i >= names {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(columns)
	t.AppendHeader(row)
	return t
}

func (r *results) seconds(m series, path string) string {
	if s, ok := r.median(m.app, m.cpus, path); ok {
		return fmt.Sprintf("%.2f s", s)
	}
	return absent
}

func (r *results) ratio(m series, path string, n series, by string) string {
	s, ok := r.ratios(series{m.app, m.cpus, path}, series{n.app, n.cpus, by})
	if !ok {
		return absent
	}
	return s.format("×")
}

// format writes a spread with its unit, or one value if there is no more.
func (s spread) format(unit string) string {
	if s.min == s.max {
		return fmt.Sprintf("%.2f%s", s.median, unit)
	}
	return fmt.Sprintf("%.2f%s (%.2f–%.2f)", s.median, unit, s.min, s.max)
}

func (r *results) size(app, path string) string {
	if n, ok := r.bytes(app, path); ok {
		return megabytes(n)
	}
	return absent
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
