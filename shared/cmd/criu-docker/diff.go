package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

func diffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff REF REF",
		Short: "Show what changed from one snapshot to another",
		Long: `Compares two snapshots of the store: image, command, environment, mounts, security, hooks, options, the machine, processes
and their memory, sockets that are listened on, files in the container's layer, sizes, and how long the build took. Of the
environment it prints names, never values. The exit code is 0 whether they differ or not, as docker diff's is: two builds always
differ in something.

With --json it prints {"from", "to", "changes", "notes"}. "from" and "to" are {"ref", "digest", "created"}. Each of the changes is
{"section", "name", "change", "from", "to"}, where "change" is added, removed or changed; sizes are in bytes, times in
nanoseconds, and values that are not to be seen are left out.`,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.diff(cmd.Context(), args[0], args[1]) },
	}
}

// diffed is what diff --json prints.
type diffed struct {
	From    side         `json:"from"`
	To      side         `json:"to"`
	Changes []difference `json:"changes"`
	Notes   []string     `json:"notes,omitempty"` // what could not be compared
}

// side names one of the two snapshots.
type side struct {
	Ref     string    `json:"ref"`
	Digest  string    `json:"digest"`
	Created time.Time `json:"created"`
}

// difference is one thing that is not the same in two snapshots.
type difference struct {
	Section string `json:"section"`
	Name    string `json:"name"`
	Change  string `json:"change"`
	From    any    `json:"from,omitempty"`
	To      any    `json:"to,omitempty"`
}

const (
	added   = "added"
	removed = "removed"
	changed = "changed"
)

func (a *app) diff(ctx context.Context, from, to string) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	var sides [2]compared
	for i, ref := range []string{from, to} {
		if sides[i], err = readCompared(ctx, s, ref); err != nil {
			return err
		}
	}
	d := diffed{From: sides[0].side, To: sides[1].side, Changes: []difference{}}
	if d.From.Digest != d.To.Digest {
		d.compare(sides[0], sides[1])
	}
	if a.json {
		return a.printJSON(d)
	}
	return a.printDiff(d)
}

// compared is a snapshot with everything that is compared of it.
type compared struct {
	side
	config snapshot.Config
	layers []ocispec.Descriptor
	files  []snapshot.LayerFile
}

func readCompared(ctx context.Context, s store.Store, ref string) (c compared, err error) {
	entry, err := resolve(ctx, s, ref)
	if err != nil {
		return c, err
	}
	manifest, config, err := snapshot.Load(ctx, s, entry.Manifest)
	if err == nil {
		c.files, err = snapshot.LayerFiles(ctx, s, manifest, config)
	}
	if err != nil {
		return c, fmt.Errorf("snapshot %s in %s: %w", entry.Name, s.URL(), err)
	}
	c.side = side{Ref: entry.Name, Digest: entry.Manifest.Digest.String(), Created: config.Created}
	c.config, c.layers = config, manifest.Layers
	return c, nil
}

func (d *diffed) compare(from, to compared) {
	same := from.config.Image.ID == to.config.Image.ID
	if !same {
		d.Notes = append(d.Notes, "whether values of the environment differ is not known: the hashes of two images' can't be compared")
	}
	d.Changes = append(d.Changes, differences(facts(from, same), facts(to, same))...)
}

// differences compares by section and name. Within a section, what is gone comes after the others.
func differences(from, to []fact) []difference {
	type key struct{ section, name string }
	old := map[key]fact{}
	for _, f := range from {
		old[key{f.section, f.name}] = f
	}
	bySection := map[string][]difference{}
	add := func(d difference) { bySection[d.Section] = append(bySection[d.Section], d) }
	both := map[key]bool{}
	for _, f := range to {
		was, ok := old[key{f.section, f.name}]
		switch {
		case !ok:
			add(difference{f.section, f.name, added, nil, f.value})
			continue
		case was.value != f.value || was.hidden != f.hidden:
			add(difference{f.section, f.name, changed, was.value, f.value})
		}
		both[key{f.section, f.name}] = true
	}
	for _, f := range from {
		if !both[key{f.section, f.name}] {
			add(difference{f.section, f.name, removed, f.value, nil})
		}
	}
	var list []difference
	for _, section := range sections {
		list = append(list, bySection[section]...)
	}
	return list
}

func (a *app) printDiff(d diffed) error {
	t := newTable(a.stdout)
	t.row("From", d.From.Ref, shortDigest(d.From.Digest), "created "+ago(d.From.Created))
	t.row("To", d.To.Ref, shortDigest(d.To.Digest), "created "+ago(d.To.Created))
	section := ""
	for _, c := range d.Changes {
		if c.Section != section {
			section = c.Section
			t.row("")
			t.row(section)
		}
		cells := []string{"  " + map[string]string{added: "+", removed: "-", changed: "~"}[c.Change] + " " + c.Name}
		if text := c.text(); text != "" {
			cells = append(cells, text)
		}
		t.row(cells...)
	}
	if len(d.Changes) == 0 {
		t.row("")
		t.row("No differences")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, note := range d.Notes {
		fmt.Fprintln(a.stderr, "note:", note)
	}
	return nil
}

// text says in short how a value changed.
func (d difference) text() string {
	switch {
	case d.Change == added:
		return valueText(d.To)
	case d.Change == removed:
		return valueText(d.From)
	case d.From == d.To:
		return "has changed"
	}
	text := valueText(d.From) + " → " + valueText(d.To)
	if from, ok := d.From.(int64); ok {
		if to, ok := d.To.(int64); ok {
			text += " (" + map[bool]string{true: "+", false: "-"}[to > from] + size(max(to, from)-min(to, from)) + ")"
		}
	}
	return text
}

func valueText(v any) string {
	const limit = 120
	switch v := v.(type) {
	case int64:
		return size(v)
	case time.Duration:
		return seconds(v)
	case string:
		if line := []rune(v); len(line) > limit {
			return string(line[:limit]) + "…"
		}
		return cmp.Or(v, "none")
	default:
		return ""
	}
}
