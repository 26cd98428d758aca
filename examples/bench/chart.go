package main

import (
	"bytes"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// bars are the paths in the order in which a group shows them.
var bars = []struct {
	path, name string
	color      color.Color
}{
	{pathCold, "cold", color.RGBA{R: 0x4c, G: 0x72, B: 0xb0, A: 0xff}},
	{pathPodman, "Podman restore", color.RGBA{R: 0x81, G: 0x72, B: 0xb3, A: 0xff}},
	{pathEmpty, "hot, empty cache", color.RGBA{R: 0xdd, G: 0x84, B: 0x52, A: 0xff}},
	{pathWarm, "hot, warm cache", color.RGBA{R: 0xc4, G: 0x4e, B: 0x52, A: 0xff}},
	{pathFloor, "floor", color.RGBA{R: 0x9a, G: 0x9a, B: 0x9a, A: 0xff}},
}

// chart draws the medians as grouped bars, in SVG.
func (r *results) chart() ([]byte, error) {
	groups := r.measured()
	if len(groups) == 0 {
		return nil, nil
	}
	p := newPlot("Start to first HTTP 200, median")
	p.Y.Label.Text = "seconds"
	var names []string
	for _, g := range groups {
		names = append(names, fmt.Sprintf("%s, %d CPU%s", g.app, g.cpus, plural(g.cpus)))
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(groups))+0.3 // room for the legend

	const width = 34 // of a bar, in points
	for i, bar := range bars {
		values := make(plotter.Values, len(groups))
		labels := plotter.XYLabels{}
		offset := vg.Points(width * (float64(i) - float64(len(bars)-1)/2))
		for j, g := range groups {
			app := g.app
			if bar.path == pathFloor {
				app = floor.name
			}
			s, ok := r.median(app, g.cpus, bar.path)
			if !ok {
				continue
			}
			values[j] = s
			labels.XYs = append(labels.XYs, plotter.XY{X: float64(j), Y: s})
			labels.Labels = append(labels.Labels, fmt.Sprintf("%.2f", s))
			p.Y.Max = max(p.Y.Max, s*1.08) // room for the label
		}
		chart, err := plotter.NewBarChart(values, vg.Points(width-2))
		if err != nil {
			return nil, err
		}
		chart.Color, chart.Offset = bar.color, offset
		chart.LineStyle.Width = 0
		p.Add(chart)
		p.Legend.Add(bar.name, chart)

		written, err := plotter.NewLabels(labels)
		if err != nil {
			return nil, err
		}
		written.Offset = vg.Point{X: offset, Y: vg.Points(3)}
		for k := range written.TextStyle {
			written.TextStyle[k] = text.Style{
				Font: sans(9), Color: color.Black, XAlign: draw.XCenter, Handler: plot.DefaultTextHandler,
			}
		}
		p.Add(written)
	}

	groupWidth := vg.Points(width * float64(len(bars)+1))
	p.Legend.XOffs = groupWidth * vg.Length(len(groups))
	return render(p, vg.Points(60)+groupWidth*vg.Length(p.X.Max-p.X.Min))
}

const chartHeight = 11 * vg.Centimeter

// render draws a plot of the given width, in SVG.
func render(p *plot.Plot, width vg.Length) ([]byte, error) {
	c := vgsvg.New(width, chartHeight)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// The others are as wide, and one of them is everywhere.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// newPlot is an empty plot in a sans-serif font, with horizontal lines only.
func newPlot(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font = sans(13)
	p.Title.Padding = vg.Points(8)
	p.Y.Min = 0
	p.Y.Label.TextStyle.Font = sans(11)
	p.Y.Tick.Label.Font = sans(10)
	p.X.Tick.Label.Font = sans(11)
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font = sans(11)
	p.Legend.ThumbnailWidth = vg.Points(12)
	p.Legend.Padding = vg.Points(4)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color = color.Gray{Y: 0xdd}
	p.Add(grid)
	return p
}

func sans(points float64) font.Font {
	f := font.From(plot.DefaultFont, vg.Points(points))
	f.Variant = "Sans"
	return f
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
