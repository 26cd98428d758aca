package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/criu-docker/criu-docker/shared/build"
)

// progress shows the steps of a build as they come.
type progress interface {
	event(build.Event)
	close() // nothing is shown afterwards
}

// newProgress shows bars on a terminal, lines elsewhere, and documents to programs.
func (a *app) newProgress() progress {
	switch f, isFile := a.stderr.(*os.File); {
	case a.json:
		return &jsonProgress{print: a.printJSON}
	case isFile && term.IsTerminal(int(f.Fd())):
		return &barProgress{bars: mpb.New(mpb.WithOutput(f), mpb.WithWidth(barWidth)), steps: map[string]*stepBar{}}
	default:
		return &lineProgress{out: a.stderr}
	}
}

// lineProgress prints a line at the end of every step.
type lineProgress struct {
	mu    sync.Mutex
	out   io.Writer
	bytes int64 // that the step under way has in all
}

func (p *lineProgress) event(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes = max(p.bytes, e.Total)
	if !e.Done {
		return
	}
	amount := ""
	if p.bytes > 0 {
		amount = " (" + size(p.bytes) + ")"
	}
	p.bytes = 0
	fmt.Fprintf(p.out, "%-8s %10s  %s%s\n", e.Step, seconds(e.Elapsed), e.Message, amount)
}

func (p *lineProgress) close() {}

// jsonProgress prints a document at the beginning and at the end of every step.
type jsonProgress struct {
	mu    sync.Mutex
	print func(any) error
	step  string
}

// stepEvent is what build --json prints for a step.
type stepEvent struct {
	Event   string  `json:"event"` // "begin" or "end"
	Step    string  `json:"step"`
	Message string  `json:"message,omitempty"`
	Bytes   int64   `json:"bytes,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
}

func (p *jsonProgress) event(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := stepEvent{Event: "begin", Step: e.Step, Message: e.Message, Bytes: e.Total, Seconds: e.Elapsed.Seconds()}
	switch {
	case e.Done:
		out.Event, p.step = "end", ""
	case p.step == e.Step:
		return // advances come too often for a log
	default:
		p.step = e.Step
	}
	_ = p.print(out) // a broken pipe shows when the result is printed
}

func (p *jsonProgress) close() {}

const barWidth = 60

// barProgress shows a spinner for a step, and a bar once it counts bytes.
type barProgress struct {
	mu    sync.Mutex
	bars  *mpb.Progress
	steps map[string]*stepBar
}

type stepBar struct {
	bar   *mpb.Bar
	bytes bool
}

func (p *barProgress) event(e build.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := p.steps[e.Step]
	if step == nil || e.Total > 0 && !step.bytes {
		if step != nil {
			step.bar.Abort(true)
		}
		step = p.add(e)
		p.steps[e.Step] = step
	}
	if e.Total > 0 {
		step.bar.SetTotal(e.Total, false)
		step.bar.SetCurrent(e.Current)
	}
	if e.Done {
		step.bar.SetTotal(-1, true)
	}
}

func (p *barProgress) add(e build.Event) *stepBar {
	name := decor.Name(e.Step, decor.WC{W: 9, C: decor.DindentRight})
	elapsed := decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 7})
	if e.Total == 0 {
		return &stepBar{bar: p.bars.New(0, mpb.SpinnerStyle().PositionLeft(), mpb.PrependDecorators(name), mpb.AppendDecorators(elapsed))}
	}
	return &stepBar{bytes: true, bar: p.bars.New(0, mpb.BarStyle(), mpb.PrependDecorators(name),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), elapsed))}
}

func (p *barProgress) close() {
	p.mu.Lock()
	for _, step := range p.steps {
		step.bar.Abort(false) // does nothing to those that are complete
	}
	p.mu.Unlock()
	p.bars.Wait()
}
