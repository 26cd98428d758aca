package timeline

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Text writes the spans as a table: when each began, how long it took, and a bar that shows both.
func Text(w io.Writer, spans []Span) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	tracks, total := rows(spans)
	fmt.Fprintf(table, "TRACK\tSTEP\tAT\tTIME\t%s\t\n", strings.Repeat(" ", barCells)) // an error comes out of Flush
	for _, track := range tracks {
		for i, r := range track {
			name := ""
			if i == 0 {
				name = r.Track
			}
			fmt.Fprintf(table, "%s\t%s%s\t%s\t%s\t%s\t%s\n",
				name, strings.Repeat("  ", r.depth), r.Name, seconds(r.offset), seconds(r.Elapsed), bar(r, total), r.Note)
		}
	}
	return table.Flush()
}

// JSON writes the spans as an array, in the order of their starts.
func JSON(w io.Writer, spans []Span) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(append([]Span{}, sorted(spans)...)) // none is an empty array
}

// barCells is how many characters stand for the whole time.
const barCells = 50

func bar(r row, total time.Duration) string {
	if total <= 0 {
		return ""
	}
	cell := func(at time.Duration) int { return int((at*barCells + total/2) / total) }
	from := min(cell(r.offset), barCells-1)
	length := max(cell(r.offset+r.Elapsed)-from, 0)
	mark := strings.Repeat("█", length)
	if length == 0 {
		mark = "▏" // too short for a cell, but there
	}
	return strings.Repeat(" ", from) + mark
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.4f s", d.Seconds()) }
