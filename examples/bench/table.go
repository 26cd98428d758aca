package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
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

func (r *results) sizeTable() table.Writer {
	t := newTable(1, "app", "memory image", "snapshot", "Podman's export", "tar.gz")
	seen := ""
	for _, m := range r.measured() {
		if m.app != seen {
			t.AppendRow(table.Row{m.app, r.size(m.app, sizeMemory), r.size(m.app, sizeSnapshot), r.size(m.app, sizePodman), r.size(m.app, sizeTarGzip)})
		}
		seen = m.app
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
	_, err := fmt.Fprintf(w, "\nStart to first HTTP 200, medians. 2019: the experiment that this project grew from.\n%s\n\nPeers, in the same run.\n%s\n\nSizes.\n%s\n",
		r.starts().Render(), r.peers().Render(), r.sizeTable().Render())
	return err
}

//go:embed page.md.tmpl
var pageTemplate string

// page is the whole report in Markdown.
func (r *results) page() ([]byte, error) {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Machine": r.machine,
		"Starts":  r.starts().RenderMarkdown(),
		"Peers":   r.peers().RenderMarkdown(),
		"Sizes":   r.sizeTable().RenderMarkdown(),
		"Spread":  r.spread().RenderMarkdown(),
	})
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
	x, ok := r.median(m.app, m.cpus, path)
	y, ok2 := r.median(n.app, n.cpus, by)
	if !ok || !ok2 {
		return absent
	}
	return fmt.Sprintf("%.2f×", x/y)
}

func (r *results) size(app, path string) string {
	if n, ok := r.bytes(app, path); ok {
		return megabytes(n)
	}
	return absent
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
