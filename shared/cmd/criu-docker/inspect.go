package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

func inspectCommand(a *app) *cobra.Command {
	var files bool
	cmd := &cobra.Command{
		Use:   "inspect REF",
		Short: "Show what is in a snapshot",
		Long: `Prints what was frozen, from which image and how it was started, what a machine needs to restore it, how large it is
and how long it took. Values of environment variables are not in a snapshot's description, only hashes of them; they
are in the frozen memory. At last it names the risks that a reviewer should know, each with a section of the manual.

With --json it prints {"ref", "store", "updated", "digest", "layers", "config", "risks"}; docs/format.md explains "layers"
and "config", and risks are {"kind", "message", "items", "see"}.`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return a.inspect(cmd.Context(), args[0], files) },
	}
	cmd.Flags().BoolVar(&files, "files", false, "list open files and mounts too, and all that risks are about")
	return cmd
}

// inspected is what inspect --json prints.
type inspected struct {
	Ref     string               `json:"ref"`
	Store   string               `json:"store"`
	Updated time.Time            `json:"updated"`
	Digest  string               `json:"digest"`
	Layers  []ocispec.Descriptor `json:"layers"`
	Config  snapshot.Config      `json:"config"`
	Risks   []snapshot.Risk      `json:"risks"`
}

func (a *app) inspect(ctx context.Context, ref string, files bool) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	entry, err := resolve(ctx, s, ref)
	if err != nil {
		return err
	}
	manifest, config, err := snapshot.Load(ctx, s, entry.Manifest)
	if err != nil {
		return fmt.Errorf("snapshot %s in %s: %w", entry.Name, s.URL(), err)
	}
	i := inspected{
		Ref: entry.Name, Store: s.URL(), Updated: entry.Updated, Digest: entry.Manifest.Digest.String(),
		Layers: manifest.Layers, Config: config, Risks: config.Risks(),
	}
	if a.json {
		return a.printJSON(i)
	}
	t := newTable(a.stdout)
	describeOrigin(t, i)
	describeRun(t, config.Run)
	describeNeeds(t, config)
	describeFrozen(t, config, files)
	describeCost(t, config, len(i.Layers))
	describeRisks(t, i.Risks, files)
	return t.flush()
}

func describeOrigin(t table, i inspected) {
	c := i.Config
	t.row("Ref", i.Ref)
	t.row("Digest", i.Digest)
	t.row("Store", i.Store)
	t.row("Created", c.Created.Local().Format(time.RFC3339)+", "+ago(c.Created))
	t.row("Image", c.Image.Reference+" ("+c.Image.Arch+")")
	t.row("  id", c.Image.ID.String())
	if c.Image.RepoDigest != "" {
		t.row("  from", c.Image.RepoDigest)
	}
}

func describeRun(t table, r snapshot.RunConfig) {
	t.row("Command", strings.Join(r.Args, " "))
	t.row("  user", orElse(r.User, "root"))
	t.row("  workdir", orElse(r.WorkingDir, "/"))
	t.row("  environment", orElse(strings.Join(slices.Sorted(maps.Keys(r.Env)), ", "), "none"))
	t.row("  ports", orElse(strings.Join(r.Ports, ", "), "none"))
	for _, m := range r.Mounts {
		access := "read-write"
		if m.ReadOnly {
			access = "read-only"
		}
		t.row("  mount", fmt.Sprintf("%s (%s, %s)", m.Destination, m.Type, access))
	}
}

func describeNeeds(t table, c snapshot.Config) {
	h := c.Host
	t.row("Made on", fmt.Sprintf("Linux %s, CRIU %s, runc %s, Docker %s", h.Kernel, h.CRIU, h.Runc, h.Engine))
	t.row("  processor", fmt.Sprintf("%s, %d features, xsave %d bytes", h.CPUModel, len(h.CPUFeatures), h.XSaveSize))
	if h.CPUBaseline != "" {
		t.row("  held to", fmt.Sprintf("%s: of the features, clones need no others", h.CPUBaseline))
	}
	o := c.Checkpoint
	options := []string{"tcp " + string(o.TCP), "ghost limit " + size(o.GhostLimit)}
	for name, on := range map[string]bool{"file locks": o.FileLocks, "external unix sockets": o.ExtUnixSk, "link remap": o.LinkRemap} {
		if on {
			options = append(options, name)
		}
	}
	slices.Sort(options)
	t.row("  options", strings.Join(options, ", "))
	for _, h := range c.Hooks.BeforeFreeze {
		t.row("  before freeze", h.String())
	}
	for _, h := range c.Hooks.AfterRestore {
		t.row("  after restore", h.String())
	}
}

func describeFrozen(t table, c snapshot.Config, files bool) {
	t.row("Hostname", c.Hostname)
	t.row("Processes", fmt.Sprintf("%d", count(c.Processes)))
	describeProcesses(t, c.Processes, "  ")
	for _, s := range c.Sockets {
		if s.State == "LISTEN" || s.State == "ESTABLISHED" || files {
			to := ""
			if s.Dest != "" {
				to = " → " + s.Dest
			}
			t.row("  socket", fmt.Sprintf("%s %s%s %s (process %d)", s.Protocol, orElse(s.Source, "unnamed"), to, s.State, s.PID))
		}
	}
	t.row("Descriptors", fmt.Sprintf("files %d, sockets %d", len(c.Files), len(c.Sockets)))
	if files {
		for _, f := range c.Files {
			t.row("  file", fmt.Sprintf("%d:%s %s %s", f.PID, f.FD, f.Type, f.Path))
		}
	}
	t.row("Mounts", fmt.Sprintf("%d", len(c.Mounts)))
	if files {
		for _, m := range c.Mounts {
			t.row("  at", describeMount(m))
		}
	}
}

func describeMount(m criu.Mount) string {
	origin, access := "the container's own", "read-write"
	if m.External {
		origin = "the host's"
	}
	if m.ReadOnly {
		access = "read-only"
	}
	return fmt.Sprintf("%s (%s, %s, %s)", m.Destination, orElse(m.Type, "bind"), origin, access)
}

func describeProcesses(t table, list []criu.Process, indent string) {
	for _, p := range list {
		t.row("  process", fmt.Sprintf("%s%d %s, %s", indent[2:], p.PID, p.Command, size(p.RSS)))
		describeProcesses(t, p.Children, indent+"  ")
	}
}

func count(list []criu.Process) int {
	n := len(list)
	for _, p := range list {
		n += count(p.Children)
	}
	return n
}

func describeCost(t table, c snapshot.Config, layers int) {
	t.row("Size", fmt.Sprintf("%s stored, layers %d", size(c.Sizes.Packed), layers))
	t.row("  memory", size(c.Sizes.Memory))
	t.row("  images", size(c.Sizes.Checkpoint))
	t.row("  written files", size(c.Sizes.Rootfs))
	if c.Sizes.MountFiles > 0 {
		t.row("  files of mounts", size(c.Sizes.MountFiles))
	}
	var total time.Duration
	for _, step := range c.Timings {
		total += step.Elapsed
	}
	t.row("Build took", seconds(total))
	for _, step := range c.Timings {
		t.row("  "+step.Step, seconds(step.Elapsed))
	}
}

// describeRisks names what each risk is about: the first few, or all.
func describeRisks(t table, risks []snapshot.Risk, all bool) {
	const few = 8
	t.row("Risks", strconv.Itoa(len(risks)))
	for _, r := range risks {
		t.row("  "+r.Kind, r.Message+" ("+r.See+")")
		items, more := r.Items, ""
		if len(items) > few && !all {
			items, more = items[:few], fmt.Sprintf(" and %d more (--files)", len(r.Items)-few)
		}
		if len(items) > 0 {
			t.row("", strings.Join(items, ", ")+more)
		}
	}
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
