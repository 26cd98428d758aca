package snapshot

import (
	"fmt"
	"strconv"
	"strings"
)

// Extent is a run of whole pages of a page image.
type Extent struct{ Offset, Length int64 } // bytes

// End is where the extent ends in its page image.
func (e Extent) End() int64 { return e.Offset + e.Length }

// maxPages bounds page numbers, so that no sum of them overflows.
const maxPages = 1 << 48

// formatExtents writes extents as readers find them in AnnotationExtents: skip+count, in pages, separated by commas.
func formatExtents(extents []Extent) string {
	var b []byte
	var end int64
	for i, e := range extents {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, (e.Offset-end)/PageSize, 10)
		b = append(b, '+')
		b = strconv.AppendInt(b, e.Length/PageSize, 10)
		end = e.End()
	}
	return string(b)
}

// parseExtents is the inverse of formatExtents; there is one way only to write a list.
func parseExtents(s string) ([]Extent, error) {
	extents := make([]Extent, 0, min(strings.Count(s, ",")+1, FrameSize/PageSize))
	var end, sum int64 // pages
	for item := range strings.SplitSeq(s, ",") {
		skipped, counted, _ := strings.Cut(item, "+")
		skip, err := canonicalInt(skipped)
		if err != nil {
			return nil, err
		}
		count, err := canonicalInt(counted)
		if err != nil {
			return nil, err
		}
		start := end + skip
		end = start + count
		sum += count
		switch {
		case start < 0:
			return nil, fmt.Errorf("%q begins before the file", item)
		case skip == 0 && len(extents) > 0:
			return nil, fmt.Errorf("%q goes on where the extent before it ends", item)
		case count < 1 || sum > FrameSize/PageSize:
			return nil, fmt.Errorf("%q makes %d pages, not between 1 and %d", item, sum, FrameSize/PageSize)
		case end > maxPages:
			return nil, fmt.Errorf("%q ends beyond any file", item)
		}
		extents = append(extents, Extent{start * PageSize, count * PageSize})
	}
	return extents, nil
}

// canonicalInt reads a number as strconv writes it: without a plus sign, leading zeros or a negative zero.
func canonicalInt(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < -maxPages || n > maxPages || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%q is not a number of pages", s)
	}
	return n, nil
}
