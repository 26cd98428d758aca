package restore

import (
	"slices"
	"time"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

// The engine's spans that the runtime's lie in.
const (
	createCall = "create container"
	startCall  = "start container"
)

// noise is how far the clocks of a process, one for times and one for durations, are apart at most.
const noise = 100 * time.Microsecond

// Trace adds to the timeline of a start what others did while the engine started the container: the runtime, CRIU, and the
// engine itself. It reads CRIU's log, which takes milliseconds; so Run does not. What can't be read is left out.
func Trace(t *timeline.Recorder, r *Result) {
	if t == nil || len(r.Report.Steps) == 0 {
		return
	}
	t.Add(engineSpans(t.Spans(), r.Report.Steps)...)
	t.Add(runtimeSpans(r.Report.Steps)...)
	log, err := runDir.RestoreLog(r.ContainerID)
	if err != nil {
		return
	}
	defer log.Close()
	t.Add(criuSpans(criu.RestorePhases(log), r.Report.Steps)...)
}

// runtimeSpans are the runtime's steps, and between them the starts of its processes, of which it knows nothing.
func runtimeSpans(steps []ociruntime.Step) []timeline.Span {
	var spans []timeline.Span
	for i, step := range steps {
		if i > 0 {
			ended := stepEnd(steps[i-1])
			if gap := step.Start.Sub(ended); gap > noise {
				spans = append(spans, timeline.Span{Name: "process start", Track: timeline.Runtime, Start: ended, Elapsed: gap})
			}
		}
		spans = append(spans, timeline.Span{Name: step.Name, Track: timeline.Runtime, Start: step.Start, Elapsed: step.Elapsed})
	}
	return spans
}

// engineSpans are what the engine does by itself while it starts a container: before it calls the runtime, and after.
func engineSpans(spans []timeline.Span, steps []ociruntime.Step) []timeline.Span {
	for _, span := range spans {
		first, last := steps[0].Start, stepEnd(steps[len(steps)-1])
		if span.Name != startCall || first.Before(span.Start) || last.After(span.End()) {
			continue
		}
		return []timeline.Span{
			{Name: "prepare the runtime", Track: timeline.Engine, Start: span.Start, Elapsed: first.Sub(span.Start)},
			{Name: "conclude", Track: timeline.Engine, Start: last, Elapsed: span.End().Sub(last)},
		}
	}
	return nil
}

// criuSpans puts CRIU's phases where they belong: its log counts from its own start, and does not tell when that was. But
// the runtime knows when CRIU had forked, and runc ends after CRIU.
func criuSpans(phases []criu.Phase, steps []ociruntime.Step) []timeline.Span {
	forked := slices.IndexFunc(steps, func(s ociruntime.Step) bool { return s.Name == ociruntime.StepFork })
	held := slices.IndexFunc(phases, func(p criu.Phase) bool { return p.Name == criu.PhaseForked })
	if forked < 0 || held < 0 {
		return nil
	}
	begin := stepEnd(steps[forked]).Add(-phases[held].Start)
	if latest := stepEnd(steps[len(steps)-1]).Add(-phases[len(phases)-1].End); latest.Before(begin) {
		begin = latest
	}
	var spans []timeline.Span
	for _, p := range phases {
		spans = append(spans, timeline.Span{Name: p.Name, Track: timeline.CRIU, Start: begin.Add(p.Start), Elapsed: p.End - p.Start})
	}
	return spans
}

func stepEnd(s ociruntime.Step) time.Time { return s.Start.Add(s.Elapsed) }
