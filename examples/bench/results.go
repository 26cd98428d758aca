package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// row is one series, as in bench.json.
type row struct {
	App    string  `json:"app"`
	CPUs   int     `json:"cpus"`
	Path   string  `json:"path"`
	N      int     `json:"n"`
	Median float64 `json:"median_s"`
	Min    float64 `json:"min_s"`
	Max    float64 `json:"max_s"`
}

// size is what one way of keeping a booted app takes, as in bench.json.
type size struct {
	App   string `json:"app"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// What size.Path may be.
const (
	sizeMemory   = "memory"        // CRIU's page images
	sizeSnapshot = "snapshot"      // as it lies in the store
	sizePodman   = "podman_export" // podman container checkpoint -e --compress zstd
	sizeTarGzip  = "tar_gz"        // tar cz of CRIU's images, as in 2019
)

// memory is what one of several containers that were started at once takes, as in bench.json.
type memory struct {
	App      string `json:"app"`
	CPUs     int    `json:"cpus"`
	Path     string `json:"path"`
	Answered int64  `json:"answered_bytes"` // at the last one's answer
	Filled   int64  `json:"filled_bytes"`   // when the runtime is done with all of them
}

// version is one publication of an app's snapshot, as in bench.json. The first one finds the store empty.
type version struct {
	App       string  `json:"app"`
	Version   int     `json:"version"`
	Published float64 `json:"ready_to_published_s"`
	Paused    float64 `json:"paused_s"`
	Fresh     int64   `json:"new_bytes"`
}

// results are what one run measured.
type results struct {
	Rows     []row     `json:"rows"`
	Sizes    []size    `json:"sizes"`
	Memory   []memory  `json:"memory,omitempty"`
	Versions []version `json:"versions,omitempty"`
	Targets  []verdict `json:"targets,omitempty"`

	machine  []string                 // what it was measured on
	download map[series]time.Duration // median
	rss      map[series]int64         // median, bytes
	each     map[series][]float64     // seconds, by round
}

func (b *bench) report(ctx context.Context) (*results, error) {
	r := summarise(b.samples, b.sizes, b.publications)
	if b.opts.full {
		r.Targets = r.verdicts()
	}
	var err error
	r.machine, err = b.machine(ctx)
	return r, err
}

// summarise orders its results by app, CPUs and path, however they were measured.
func summarise(samples map[series][]sample, sizes []size, publications map[string][]publication) *results {
	r := &results{
		Sizes: slices.SortedFunc(slices.Values(sizes), func(x, y size) int {
			return cmp.Or(cmp.Compare(x.App, y.App), cmp.Compare(x.Path, y.Path))
		}),
		download: map[series]time.Duration{}, rss: map[series]int64{}, each: map[series][]float64{},
	}
	for key, list := range samples {
		totals := seconds(list)
		r.each[key] = totals
		r.Rows = append(r.Rows, row{
			App: key.app, CPUs: key.cpus, Path: key.path, N: len(list),
			Median: median(totals), Min: slices.Min(totals), Max: slices.Max(totals),
		})
		var fetches []time.Duration
		var resident, answered, filled []int64
		for _, s := range list {
			fetches, resident = append(fetches, s.fetch), append(resident, s.rss)
			answered, filled = append(answered, s.answered), append(filled, s.filled)
		}
		r.download[key], r.rss[key] = median(fetches), median(resident)
		if median(answered) > 0 {
			r.Memory = append(r.Memory, memory{key.app, key.cpus, key.path, median(answered), median(filled)})
		}
	}
	slices.SortFunc(r.Rows, func(x, y row) int {
		return cmp.Or(cmp.Compare(x.App, y.App), cmp.Compare(x.CPUs, y.CPUs), cmp.Compare(x.Path, y.Path))
	})
	slices.SortFunc(r.Memory, func(x, y memory) int {
		return cmp.Or(cmp.Compare(x.App, y.App), cmp.Compare(x.CPUs, y.CPUs), cmp.Compare(x.Path, y.Path))
	})
	for _, app := range slices.Sorted(maps.Keys(publications)) {
		for i, p := range publications[app] {
			r.Versions = append(r.Versions, version{app, i + 1, p.published.Seconds(), p.paused.Seconds(), p.fresh})
		}
	}
	return r
}

// machine describes what was measured on, a fact a line.
func (b *bench) machine(ctx context.Context) ([]string, error) {
	host, err := criu.HostInfo(ctx)
	if err != nil {
		return nil, err
	}
	info, err := b.eng.Client.Info(ctx)
	if err != nil {
		return nil, err
	}
	server, err := b.eng.Client.ServerVersion(ctx)
	if err != nil {
		return nil, err
	}
	software := []string{"Docker " + server.Version}
	for _, part := range server.Components {
		if part.Name == "containerd" || part.Name == "runc" {
			software = append(software, part.Name+" "+part.Version)
		}
	}
	facts := []string{
		fmt.Sprintf("%s, %d CPUs, %.0f GiB", host.CPUModel, runtime.NumCPU(), float64(info.MemTotal)/(1<<30)),
		"Linux " + host.Kernel,
		strings.Join(append(software, "CRIU "+host.CRIU), ", "),
	}
	if b.podman != nil {
		out, err := b.podman.command(ctx, "info", "--format", "Podman {{.Version.Version}}, {{.Host.OCIRuntime.Name}}").Output()
		if err != nil {
			return nil, fmt.Errorf("podman info: %w", err)
		}
		facts = append(facts, strings.TrimSpace(string(out)))
	}
	return facts, nil
}

// pictures are the charts, by the name of the file. One for which nothing was measured is nil.
var pictures = map[string]func(*results) ([]byte, error){
	"bench.svg":        (*results).chart,
	"bench-memory.svg": (*results).memoryChart,
	"bench-clones.svg": (*results).clonesChart,
}

// write puts bench.json, bench.md and the charts into dir, and removes the charts of an earlier run that this one lacks.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	page, err := r.page()
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	files := map[string][]byte{"bench.json": append(encoded, '\n'), "bench.md": page}
	for name, draw := range pictures {
		if files[name], err = draw(r); err != nil {
			return fmt.Errorf("chart %s: %w", name, err)
		}
	}
	for name, content := range files {
		if content == nil {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("results: %w", err)
			}
			continue
		}
		if err := renameio.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("results: %w", err)
		}
	}
	return nil
}

// median returns the median start in seconds of a series; ok is false if it was not measured.
func (r *results) median(app string, cpus int, path string) (s float64, ok bool) {
	for _, row := range r.Rows {
		if row.App == app && row.CPUs == cpus && row.Path == path {
			return row.Median, true
		}
	}
	return 0, false
}

func (r *results) bytes(app, path string) (n int64, ok bool) {
	for _, s := range r.Sizes {
		if s.App == app && s.Path == path {
			return s.Bytes, true
		}
	}
	return 0, false
}

// measured lists the services and numbers of CPUs that were measured.
func (r *results) measured() []series {
	var list []series
	for _, row := range r.Rows {
		if row.Path == pathCold && isService(row.App) {
			list = append(list, series{app: row.App, cpus: row.CPUs})
		}
	}
	return list
}

// allCPUs is the machine's number of CPUs, as far as anything was measured on all of them.
func (r *results) allCPUs() int {
	n := 0
	for _, row := range r.Rows {
		n = max(n, row.CPUs)
	}
	return n
}

func seconds(samples []sample) []float64 {
	var list []float64
	for _, s := range samples {
		list = append(list, s.total.Seconds())
	}
	return list
}

// spread is the median, the least and the greatest of what every round gave.
type spread struct{ median, min, max float64 }

// ratios divides start by start of the same round, which were not disturbed by different things.
func (r *results) ratios(x, y series) (s spread, ok bool) {
	var list []float64
	for round := range min(len(r.each[x]), len(r.each[y])) {
		list = append(list, r.each[x][round]/r.each[y][round])
	}
	if len(list) == 0 {
		return spread{}, false
	}
	return spreadOf(list), true
}

func spreadOf(list []float64) spread { return spread{median(list), slices.Min(list), slices.Max(list)} }

// median returns the middle of a list that is not empty, or the mean of the two that share the middle.
func median[T time.Duration | int64 | float64](list []T) T {
	list = slices.Sorted(slices.Values(list))
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}
