package timeline

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func span(track, name string, from, to int) Span {
	return Span{Track: track, Name: name, Start: begin.Add(time.Duration(from) * time.Millisecond), Elapsed: time.Duration(to-from) * time.Millisecond}
}

// start is a start with all that may happen: spans within spans, spans that overlap, one that takes no time, one of a
// track that nobody knows.
func start() []Span {
	spans := []Span{
		span(Own, "fetch", 10, 110), span(Engine, "create container", 60, 130), span(Own, "create", 60, 140),
		span(Own, "clone directory", 130, 135), span(Own, "connect", 0, 10), span(Engine, "start container", 140, 400),
		span(Runtime, "memory", 300, 380), span(CRIU, "read <images> & \"more\"", 200, 200), span("moon", "tide", 350, 360),
		span(App, "first answer", 400, 500),
	}
	spans[0].Note = "from the cache"
	return spans
}

func TestRecorderKeepsSpansInOrder(t *testing.T) {
	var r Recorder
	end := r.Begin(Own, "all")
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { r.Begin(Engine, "part")("done") })
	}
	group.Wait()
	r.Add(span(App, "long ago", 0, 1))
	require.Len(t, r.Spans(), 11, "a span that has not ended is none yet")
	end("")
	spans := r.Spans()
	require.Equal(t, "long ago", spans[0].Name)
	require.Equal(t, "all", spans[1].Name)
	for _, s := range spans[2:] {
		require.Equal(t, "done", s.Note)
		require.True(t, spans[1].contains(s))
	}

	var none *Recorder
	none.Begin(Own, "nothing")("")
	none.Add(spans...)
	require.Empty(t, none.Spans())
}

func TestRowsAreGroupedByTrack(t *testing.T) {
	tracks, total := rows(start())
	require.Equal(t, 500*time.Millisecond, total)
	var got []string
	for _, track := range tracks {
		for _, r := range track {
			got = append(got, fmt.Sprintf("%s %d %s %s", r.Track, r.depth, r.Name, r.offset))
		}
	}
	require.Equal(t, []string{
		"criu-docker 0 connect 0s", "criu-docker 0 fetch 10ms", "criu-docker 0 create 60ms", "criu-docker 1 clone directory 130ms",
		"engine 0 create container 60ms", "engine 0 start container 140ms",
		`criu 0 read <images> & "more" 200ms`, "runtime 0 memory 300ms", "moon 0 tide 350ms", "app 0 first answer 400ms",
	}, got)
}

func TestText(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Text(&b, start()))
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	require.Len(t, lines, 11)
	require.Regexp(t, `^TRACK +STEP +AT +TIME`, lines[0])
	require.Regexp(t, `^criu-docker +connect +0.0000 s +0.0100 s +█ *$`, lines[1])
	require.Regexp(t, `^ +fetch +0.0100 s +0.1000 s   █{10} +from the cache$`, lines[2])
	require.Regexp(t, `^ +clone directory +0.1300 s`, lines[4])
	require.Regexp(t, `^criu +read .* 0.2000 s +0.0000 s +▏`, lines[7])
	last := []rune(lines[10])
	require.Contains(t, lines[10], strings.Repeat("█", 10))
	for _, line := range lines[1:] { // no bar is longer than the last, which ends with the start
		require.LessOrEqual(t, len([]rune(strings.TrimRight(line[:max(strings.LastIndex(line, "█"), 0)], " "))), len(last))
	}

	b.Reset()
	require.NoError(t, Text(&b, nil))
	require.Equal(t, 1, strings.Count(b.String(), "\n"))
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, JSON(&b, start()))
	var got []Span
	require.NoError(t, json.Unmarshal(b.Bytes(), &got))
	require.Equal(t, sorted(start()), got)
	require.Contains(t, b.String(), `"elapsed_ns": 10000000`)

	b.Reset()
	require.NoError(t, JSON(&b, nil))
	require.JSONEq(t, "[]", b.String())
}

// picture is what the tests want to know of an SVG.
type picture struct {
	Width  float64 `xml:"width,attr"`
	Height float64 `xml:"height,attr"`
	Title  string  `xml:"title"`
	Tracks []struct {
		Texts []struct {
			X    float64 `xml:"x,attr"`
			Y    float64 `xml:"y,attr"`
			Text string  `xml:",chardata"`
		} `xml:"text"`
		Bars []struct {
			X      float64 `xml:"x,attr"`
			Y      float64 `xml:"y,attr"`
			Width  float64 `xml:"width,attr"`
			Height float64 `xml:"height,attr"`
			Title  string  `xml:"title"`
		} `xml:"rect"`
	} `xml:"g"`
}

func TestSVG(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, SVG(&b, `run "web" & <co>`, start()))
	var p picture
	require.NoError(t, xml.Unmarshal(b.Bytes(), &p), b.String())
	require.Equal(t, `run "web" & <co>`, p.Title)
	var names, bars []string
	y := 0.0
	for _, track := range p.Tracks {
		names = append(names, track.Texts[0].Text)
		require.Len(t, track.Texts, 1+2*len(track.Bars), "every bar has a name and a time")
		for _, bar := range track.Bars {
			bars = append(bars, bar.Title)
			require.Greater(t, bar.Y, y, "no bar covers another")
			require.GreaterOrEqual(t, bar.Width, 1.0, "one can see it")
			require.GreaterOrEqual(t, bar.X, float64(labelWidth))
			require.LessOrEqual(t, bar.X+bar.Width, float64(labelWidth+chartWidth)+1)
			y = bar.Y
		}
		for _, text := range track.Texts {
			require.Less(t, text.X, p.Width)
			require.LessOrEqual(t, text.Y, p.Height)
		}
	}
	require.Equal(t, []string{Own, Engine, CRIU, Runtime, "moon", App}, names)
	require.Len(t, bars, len(start()))
	require.Equal(t, "connect: 10 ms, from 0 ms to 10 ms", bars[0])
	require.Equal(t, "fetch: 100 ms, from 10 ms to 110 ms (from the cache)", bars[1])
	require.Contains(t, bars[6], `read <images> & "more"`)
	last := p.Tracks[len(p.Tracks)-1].Bars[0]
	require.InDelta(t, labelWidth+chartWidth, last.X+last.Width, 0.5, "the last one ends where the picture does")

	for name, spans := range map[string][]Span{"none": nil, "one without time": {span(App, "x", 0, 0)}, "long": {span(App, "x", 0, 3_600_000)}} {
		b.Reset()
		require.NoError(t, SVG(&b, name, spans))
		require.NoError(t, xml.Unmarshal(b.Bytes(), &p), name)
		require.Less(t, strings.Count(b.String(), "<line"), 12, name)
	}
}

func TestHTMLIsWellFormedAndWhole(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, HTML(&b, "a & b", start()))
	require.True(t, strings.HasPrefix(b.String(), "<!DOCTYPE html>"))
	for decoder, svg := xml.NewDecoder(&b), false; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			require.True(t, svg)
			break
		}
		require.NoError(t, err)
		if element, ok := token.(xml.StartElement); ok {
			svg = svg || element.Name.Local == "svg"
			for _, a := range element.Attr {
				require.NotContains(t, []string{"src", "href"}, a.Name.Local, "it needs nothing else")
			}
		}
	}
}

func TestTicksAreRoundAndFew(t *testing.T) {
	for total := time.Microsecond; total < time.Hour; total = total*3 + 7 {
		step := tick(total)
		require.LessOrEqual(t, total/step, time.Duration(8), total)
		require.GreaterOrEqual(t, total/step, time.Duration(3), total)
		first, _ := strconv.Atoi(fmt.Sprint(int64(step))[:1])
		require.Contains(t, []int{1, 2, 5}, first, step)
	}
}
