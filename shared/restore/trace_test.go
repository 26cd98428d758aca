package restore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/timeline"
)

var dawn = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(ms int) time.Time { return dawn.Add(time.Duration(ms) * time.Millisecond) }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// steps are the runtime's in a start that the engine was asked for at 0 and had done at 300.
var steps = []ociruntime.Step{
	{Name: "create", Start: at(50), Elapsed: ms(10)},
	{Name: "supervisor", Start: at(70), Elapsed: ms(5)}, // 10 ms for the process
	{Name: ociruntime.StepFork, Start: at(75), Elapsed: ms(25)},
	{Name: "network", Start: at(100), Elapsed: ms(40)},
	{Name: "memory", Start: at(140), Elapsed: ms(110)},
}

func TestRuntimeSpansHaveNoGaps(t *testing.T) {
	spans := runtimeSpans(steps)
	require.Len(t, spans, len(steps)+1)
	require.Equal(t, timeline.Span{Name: "process start", Track: timeline.Runtime, Start: at(60), Elapsed: ms(10)}, spans[1])
	for i := range spans[1:] {
		require.Equal(t, spans[i].End(), spans[i+1].Start)
	}
}

func TestEngineSpansAreWhatTheRuntimeDoesNotKnow(t *testing.T) {
	create := timeline.Span{Name: createCall, Track: timeline.Engine, Start: at(-50), Elapsed: ms(30)}
	start := timeline.Span{Name: startCall, Track: timeline.Engine, Start: at(0), Elapsed: ms(300)}
	got := engineSpans([]timeline.Span{create, start}, steps)
	require.Equal(t, []timeline.Span{
		{Name: "prepare the runtime", Track: timeline.Engine, Start: at(0), Elapsed: ms(50)},
		{Name: "conclude", Track: timeline.Engine, Start: at(250), Elapsed: ms(50)},
	}, got)
	require.Empty(t, engineSpans([]timeline.Span{create}, steps), "the steps are of another start")
}

func TestCRIUsPhasesAreWhereTheRuntimeSawThem(t *testing.T) {
	phases := []criu.Phase{
		{Name: "images", End: ms(3)}, {Name: criu.PhaseForked, Start: ms(3), End: ms(53)}, {Name: "memory", Start: ms(53), End: ms(151)},
	}
	spans := criuSpans(phases, steps)
	require.Len(t, spans, 3)
	require.Equal(t, timeline.Span{Name: "images", Track: timeline.CRIU, Start: at(97), Elapsed: ms(3)}, spans[0])
	require.Equal(t, at(100), spans[1].Start, "the runtime saw it then")
	require.Equal(t, at(248), spans[2].End())

	phases[2].End = ms(161)
	spans = criuSpans(phases, steps)
	require.Equal(t, at(250), spans[2].End(), "the runtime saw it late: CRIU ends before runc")
	require.Equal(t, at(92), spans[1].Start)

	require.Empty(t, criuSpans(nil, steps))
	require.Empty(t, criuSpans(phases[:1], steps), "a log that says too little")
	require.Empty(t, criuSpans(phases, steps[:2]), "a report that says too little")
}
