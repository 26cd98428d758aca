package timeline

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"time"
)

// The picture's measures, in pixels.
const (
	labelWidth = 230 // names, on the left
	chartWidth = 760
	valueWidth = 90 // room for the times of bars that end at the right
	titleSize  = 34
	axisSize   = 22
	rowHeight  = 18
	barHeight  = 12
	trackGap   = 8
	indent     = 12
	width      = labelWidth + chartWidth + valueWidth
)

// colours are those of the tracks that are known; any other is grey.
var colours = map[string]string{Own: "#4c72b0", Engine: "#8172b3", Runtime: "#dd8452", CRIU: "#c44e52", App: "#55a868"}

const (
	grey      = "#7f7f7f"
	inkColour = "#222"
	gridLine  = "#ddd"
)

// SVG writes the spans as a waterfall that needs nothing else: a lane for every track, a line for every span.
func SVG(w io.Writer, title string, spans []Span) error {
	tracks, total := rows(spans)
	height := titleSize + axisSize
	for _, track := range tracks {
		height += (len(track)+1)*rowHeight + trackGap
	}
	total = max(total, time.Nanosecond)
	d := &drawing{scale: chartWidth / total.Seconds()}
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" `+
		`font-family="Liberation Sans,Arial,Helvetica,sans-serif" font-size="11" fill="%s">`+"\n", width, height, width, height, inkColour)
	fmt.Fprintf(&d.b, "<title>%s</title>\n", escaped(title))
	fmt.Fprintf(&d.b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	d.text(8, 22, `font-size="14" font-weight="bold"`, title)
	d.axis(total, height)
	y := titleSize + axisSize
	for _, track := range tracks {
		d.lane(track, y)
		y += (len(track)+1)*rowHeight + trackGap
	}
	d.b.WriteString("</svg>\n")
	_, err := d.b.WriteTo(w)
	return err
}

// HTML writes a page with the waterfall.
func HTML(w io.Writer, title string, spans []Span) error {
	if _, err := fmt.Fprintf(w, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"/><title>%s</title></head>\n<body>\n", escaped(title)); err != nil {
		return err
	}
	if err := SVG(w, title, spans); err != nil {
		return err
	}
	_, err := io.WriteString(w, "</body>\n</html>\n")
	return err
}

// drawing is an SVG on its way.
type drawing struct {
	b     bytes.Buffer
	scale float64 // pixels to the second
}

func (d *drawing) x(at time.Duration) float64 { return labelWidth + at.Seconds()*d.scale }

func (d *drawing) text(x float64, y int, attributes, text string) {
	fmt.Fprintf(&d.b, `<text x="%.1f" y="%d" %s>%s</text>`+"\n", x, y, attributes, escaped(text))
}

// axis draws vertical lines at round times.
func (d *drawing) axis(total time.Duration, height int) {
	step := tick(total)
	for at := time.Duration(0); at <= total; at += step {
		fmt.Fprintf(&d.b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", d.x(at), titleSize+axisSize-4, d.x(at), height, gridLine)
		d.text(d.x(at), titleSize+axisSize-8, `text-anchor="middle"`, short(at))
	}
}

// lane draws the spans of one track below its name.
func (d *drawing) lane(track []row, y int) {
	name := track[0].Track
	colour, ok := colours[name]
	if !ok {
		colour = grey
	}
	fmt.Fprintf(&d.b, `<g class="track">`+"\n")
	d.text(8, y+rowHeight-5, fmt.Sprintf(`font-weight="bold" fill="%s"`, colour), name)
	for i, r := range track {
		top := y + (i+1)*rowHeight
		d.text(float64(16+r.depth*indent), top+rowHeight-5, `class="name"`, r.Name)
		fmt.Fprintf(&d.b, `<rect class="span" x="%.2f" y="%d" width="%.2f" height="%d" rx="1" fill="%s"><title>%s</title></rect>`+"\n",
			d.x(r.offset), top+(rowHeight-barHeight)/2, max(r.Elapsed.Seconds()*d.scale, 1), barHeight, colour, escaped(describe(r)))
		d.text(d.x(r.offset+r.Elapsed)+4, top+rowHeight-5, `class="time"`, short(r.Elapsed))
	}
	d.b.WriteString("</g>\n")
}

// describe is what a browser shows over a span.
func describe(r row) string {
	text := fmt.Sprintf("%s: %s, from %s to %s", r.Name, short(r.Elapsed), short(r.offset), short(r.offset+r.Elapsed))
	if r.Note != "" {
		text += " (" + r.Note + ")"
	}
	return text
}

// tick is a round time of which some eight make up the whole.
func tick(total time.Duration) time.Duration {
	const about = 8
	raw := float64(total) / about
	magnitude := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, factor := range []float64{1, 2, 5} {
		if raw <= factor*magnitude {
			return max(time.Duration(factor*magnitude), 1)
		}
	}
	return max(time.Duration(10*magnitude), 1)
}

// short writes a time with as many digits as tell something.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond || d == 0:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	default:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
}

func escaped(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}
