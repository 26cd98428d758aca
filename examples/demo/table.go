package main

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// distinct fails if two allocations have the same hostname.
func distinct(rows []row) error {
	owner := map[string]row{}
	for _, r := range rows {
		if other, taken := owner[r.hostname]; taken {
			return fmt.Errorf("allocations %s and %s have the same hostname %q", other.alloc, r.alloc, r.hostname)
		}
		owner[r.hostname] = r
	}
	return nil
}

// show prints the allocations that were checked.
func show(w io.Writer, rows []row) {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.SetColumnConfigs([]table.ColumnConfig{{Name: "first answer", Align: text.AlignRight}, {Name: "event", WidthMax: 46, WidthMaxEnforcer: text.WrapSoft}})
	t.AppendHeader(table.Row{"job", "allocation", "start", "first answer", "answer", "hostname", "event"})
	seen := ""
	for _, r := range rows {
		if seen != "" && seen != r.job {
			t.AppendSeparator()
		}
		seen = r.job
		t.AppendRow(table.Row{r.job, r.alloc, r.start, fmt.Sprintf("after %.1f s", r.took.Seconds()), r.status, r.hostname, r.event})
	}
	fmt.Fprintf(w, "All allocations answer, each under its own hostname; the hot ones have not booted.\n%s\n", t.Render())
}
