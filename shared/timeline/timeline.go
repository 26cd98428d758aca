// Package timeline collects what happened during one start, and shows it: as text, as JSON, and as a waterfall in SVG.
package timeline

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// The tracks of a start: whose time a span is.
const (
	Own     = "criu-docker"
	Engine  = "engine"
	Runtime = "runtime"
	CRIU    = "criu"
	App     = "app"
)

// Span is one thing that took its time. Spans may overlap, within a track too.
type Span struct {
	Name    string        `json:"name"`
	Track   string        `json:"track"`
	Note    string        `json:"note,omitempty"` // a few words on how it went
	Start   time.Time     `json:"start"`
	Elapsed time.Duration `json:"elapsed_ns"`
}

// End is when the span was over.
func (s Span) End() time.Time { return s.Start.Add(s.Elapsed) }

// contains reports whether the whole of another span lies within s.
func (s Span) contains(other Span) bool {
	return !other.Start.Before(s.Start) && !other.End().After(s.End())
}

// Recorder collects spans, from any number of goroutines. A nil one takes them and keeps none.
type Recorder struct {
	mu    sync.Mutex
	spans []Span
}

// Begin begins a span, which is kept once end is called.
func (r *Recorder) Begin(track, name string) (end func(note string)) {
	began := time.Now()
	return func(note string) {
		r.Add(Span{Name: name, Track: track, Note: note, Start: began, Elapsed: time.Since(began)})
	}
}

// Add keeps spans that were measured elsewhere.
func (r *Recorder) Add(spans ...Span) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, spans...)
}

// Spans returns what was kept so far, in the order of the spans' starts; of those that start together, the longest comes
// first.
func (r *Recorder) Spans() []Span {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return sorted(r.spans)
}

func sorted(spans []Span) []Span {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(b.Elapsed, a.Elapsed))
	})
	return spans
}

// row is a span in its place: below its track, indented by how many spans of that track it lies in.
type row struct {
	Span
	depth  int
	offset time.Duration // since the beginning of it all
}

// rows orders spans by track, and those of a track by time. Tracks come in the order in which they begin.
func rows(spans []Span) (tracks [][]row, total time.Duration) {
	index := map[string]int{}
	var begin time.Time
	for i, s := range sorted(spans) {
		if i == 0 {
			begin = s.Start
		}
		n, ok := index[s.Track]
		if !ok {
			n = len(tracks)
			index[s.Track] = n
			tracks = append(tracks, nil)
		}
		r := row{Span: s, offset: s.Start.Sub(begin)}
		for _, before := range tracks[n] {
			if before.contains(s) {
				r.depth++
			}
		}
		tracks[n] = append(tracks[n], r)
		total = max(total, r.offset+s.Elapsed)
	}
	return tracks, total
}
