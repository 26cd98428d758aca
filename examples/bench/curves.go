package main

import (
	"cmp"
	"fmt"
	"image/color"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// curve is a line of a chart, each point with its value beside it.
type curve struct {
	name   string
	color  color.Color
	points plotter.XYs
}

const curveWidth = 22 * vg.Centimeter

// The colours of the bars, as far as they mean the same.
var (
	coldColor  = color.RGBA{R: 0x4c, G: 0x72, B: 0xb0, A: 0xff}
	hotColor   = color.RGBA{R: 0xc4, G: 0x4e, B: 0x52, A: 0xff}
	otherColor = color.RGBA{R: 0x55, G: 0xa8, B: 0x68, A: 0xff}
)

// memoryChart draws the medians over an app's memory, in SVG.
func (r *results) memoryChart() ([]byte, error) {
	p := newPlot("Start to first HTTP 200 over memory of the app, a tenth of which it needs, median")
	p.X.Label.Text = "MiB"
	p.X.Scale = plot.LogScale{}
	curves := []curve{{name: "cold", color: coldColor}, {name: "hot, eager", color: otherColor}, {name: "hot, lazy", color: hotColor}}
	var ticks plot.ConstantTicks
	for _, a := range ballasts {
		for i, path := range []string{pathCold, pathEager, pathLazy} {
			if s, ok := r.median(a.name, r.allCPUs(), path); ok {
				curves[i].points = append(curves[i].points, plotter.XY{X: float64(a.mib), Y: s})
			}
		}
		ticks = append(ticks, plot.Tick{Value: float64(a.mib), Label: strconv.Itoa(a.mib)})
	}
	p.X.Tick.Marker = ticks
	return drawCurves(p, curves)
}

// clonesChart draws the medians over the number of containers that are started at once, in SVG.
func (r *results) clonesChart() ([]byte, error) {
	p := newPlot("Start of several containers of Redmine at once, to the last one's first HTTP 200, median")
	p.X.Label.Text = "containers"
	all := r.allCPUs()
	curves := []curve{
		{name: "cold", color: coldColor},
		{name: fmt.Sprintf("hot, of %d snapshots", crowd), color: otherColor},
		{name: "hot, of one snapshot", color: hotColor},
	}
	add := func(i int, path string, n int) {
		if s, ok := r.median(crowdApp, all, path); ok {
			curves[i].points = append(curves[i].points, plotter.XY{X: float64(n), Y: s})
		}
	}
	ticks := plot.ConstantTicks{{Value: 1, Label: "1"}}
	if _, ok := r.median(crowdApp, all, crowdPath(pathCold, crowd)); ok { // without the crowds, one container is not a curve
		add(0, pathCold, 1)
		add(0, crowdPath(pathCold, crowd), crowd)
		add(1, pathApps, crowd)
		add(2, pathWarm, 1)
	}
	for _, n := range crowds {
		add(2, crowdPath("hot", n), n)
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: strconv.Itoa(n)})
	}
	p.X.Tick.Marker = ticks
	return drawCurves(p, curves)
}

// drawCurves adds what has points; nil if nothing has.
func drawCurves(p *plot.Plot, curves []curve) ([]byte, error) {
	p.Y.Label.Text = "seconds"
	p.X.Label.TextStyle.Font = sans(11)
	curves = slices.DeleteFunc(curves, func(c curve) bool { return len(c.points) == 0 })
	if len(curves) == 0 {
		return nil, nil
	}
	for _, c := range curves {
		line, dots, err := plotter.NewLinePoints(c.points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = c.color, vg.Points(2)
		dots.Color, dots.Shape, dots.Radius = c.color, draw.CircleGlyph{}, vg.Points(3)
		p.Add(line, dots)
		p.Legend.Add(c.name, line, dots)
	}
	p.X.Max *= 1.05 // room for the captions
	p.Y.Max *= 1.1
	for _, l := range stack(curves, p.Y.Max) {
		written, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{l.point}, Labels: []string{fmt.Sprintf("%.2f", l.point.Y)}})
		if err != nil {
			return nil, err
		}
		written.Offset = vg.Point{Y: l.above}
		written.TextStyle[0] = text.Style{Font: sans(9), Color: l.color, XAlign: draw.XCenter, Handler: plot.DefaultTextHandler}
		p.Add(written)
	}
	return render(p, curveWidth)
}

// caption is a point's value, written above it.
type caption struct {
	point plotter.XY
	above vg.Length
	color color.Color
}

// stack lays the captions of points that are above one another above one another, too. top is the greatest value of the axis.
func stack(curves []curve, top float64) []caption {
	const line, gap = vg.Length(10), vg.Length(5)
	scale := chartHeight * 3 / 4 / vg.Length(top) // the rest is for the title and the axis
	var captions []caption
	for _, c := range curves {
		for _, point := range c.points {
			captions = append(captions, caption{point, gap, c.color})
		}
	}
	slices.SortStableFunc(captions, func(a, b caption) int {
		return cmp.Or(cmp.Compare(a.point.X, b.point.X), cmp.Compare(a.point.Y, b.point.Y))
	})
	for i := 1; i < len(captions); i++ {
		if below := captions[i-1]; below.point.X == captions[i].point.X {
			captions[i].above = max(gap, scale*vg.Length(below.point.Y-captions[i].point.Y)+below.above+line)
		}
	}
	return captions
}
