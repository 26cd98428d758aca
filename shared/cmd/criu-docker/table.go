package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/docker/go-units"
)

// table prints rows in aligned columns; the first row is the heading.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, heading ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
	if len(heading) > 0 {
		t.row(heading...)
	}
	return t
}

// row takes cells as they come out of containers and stores: what a terminal would obey is not printed.
func (t table) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, printable(cell)) // the error comes out of flush
	}
	fmt.Fprintln(t.w)
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func (t table) flush() error { return t.w.Flush() }

func size(bytes int64) string { return units.BytesSize(float64(bytes)) }

func ago(when time.Time) string {
	if when.IsZero() {
		return "never"
	}
	return units.HumanDuration(time.Since(when)) + " ago"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
