package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot/plotter"
)

// drawing is what a test wants to know of an SVG file.
type drawing struct {
	root  string
	texts []string
	shape map[string]int // number of elements
}

// parse fails unless the file is well-formed XML from beginning to end.
func parseSVG(t *testing.T, file []byte) drawing {
	t.Helper()
	d := drawing{shape: map[string]int{}}
	for decoder := xml.NewDecoder(bytes.NewReader(file)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			if d.root == "" {
				d.root = token.Name.Space + " " + token.Name.Local
			}
			d.shape[token.Name.Local]++
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" {
				d.texts = append(d.texts, text)
			}
		}
	}
}

func TestChart(t *testing.T) {
	r := sampleResults()
	file, err := r.chart()
	require.NoError(t, err)
	d := parseSVG(t, file)
	assert.Equal(t, "http://www.w3.org/2000/svg svg", d.root)
	assert.Subset(t, d.texts, []string{"redmine, 1 CPU", "cold", "hot, empty cache", "hot, warm cache", "floor", "seconds"})
	assert.Subset(t, d.texts, []string{"4.00", "1.25", "0.30", "0.10"}) // on its bar, each median
	assert.NotContains(t, d.texts, "0.00")                              // Podman was not measured

	r.Rows = append(r.Rows, row{App: "redmine", CPUs: 2, Path: pathCold, N: 1, Median: 2.5})
	file, err = r.chart()
	require.NoError(t, err)
	more := parseSVG(t, file)
	assert.Subset(t, more.texts, []string{"redmine, 1 CPU", "redmine, 2 CPUs", "2.50"})
}

func TestMemoryChart(t *testing.T) {
	file, err := fullResults().memoryChart()
	require.NoError(t, err)
	d := parseSVG(t, file)
	assert.Subset(t, d.texts, []string{"cold", "hot, lazy", "hot, eager", "64", "1024", "MiB", "seconds", "0.90", "0.22", "0.80"})
	file, err = sampleResults().memoryChart()
	require.NoError(t, err)
	assert.Nil(t, file)
}

func TestClonesChart(t *testing.T) {
	file, err := fullResults().clonesChart()
	require.NoError(t, err)
	d := parseSVG(t, file)
	assert.Subset(t, d.texts, []string{"cold", "hot, of one snapshot", "hot, of 8 snapshots", "1", "8", "containers", "12.00", "2.40", "0.25"})
	file, err = sampleResults().clonesChart()
	require.NoError(t, err)
	assert.Nil(t, file)
}

// Where points lie upon one another their values must not.
func TestCaptionsAreStacked(t *testing.T) {
	captions := stack([]curve{
		{points: plotter.XYs{{X: 1, Y: 0.2}, {X: 8, Y: 9}}},
		{points: plotter.XYs{{X: 1, Y: 0.2}, {X: 8, Y: 1}}},
	}, 10)
	require.Len(t, captions, 4)
	assert.GreaterOrEqual(t, captions[1].above, captions[0].above+9, "as high as a line")
	assert.Equal(t, captions[2].above, captions[3].above, "far from each other")
}
