package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// fact is something that is compared between two snapshots, known by its section and its name.
type fact struct {
	section, name string
	value         any    // a string, an int64 (bytes) or a time.Duration that may be seen; nil if there is only the name
	hidden        string // is compared, and never printed
}

// Sections of facts, in the order in which they are printed.
const (
	sectionImage     = "image"
	sectionRun       = "run"
	sectionEnv       = "environment"
	sectionPorts     = "ports"
	sectionMounts    = "mounts"
	sectionSecurity  = "security"
	sectionHooks     = "hooks"
	sectionOptions   = "options"
	sectionHost      = "host"
	sectionProcesses = "processes"
	sectionSockets   = "sockets"
	sectionFiles     = "files"
	sectionFound     = "found by the build"
	sectionSizes     = "sizes"
	sectionLayers    = "layers"
	sectionTimings   = "timings"
)

var sections = []string{
	sectionImage, sectionRun, sectionEnv, sectionPorts, sectionMounts, sectionSecurity, sectionHooks, sectionOptions, sectionHost,
	sectionProcesses, sectionSockets, sectionFiles, sectionFound, sectionSizes, sectionLayers, sectionTimings,
}

// facts lists what is compared of a snapshot. Hashes of the environment's values mean something between snapshots of one image only.
func facts(s compared, sameImage bool) []fact {
	c := s.config
	list := imageAndRun(c)
	for _, name := range slices.Sorted(maps.Keys(c.Run.Env)) {
		f := fact{section: sectionEnv, name: name}
		if sameImage {
			f.hidden = c.Run.Env[name]
		}
		list = append(list, f)
	}
	for _, p := range c.Run.Ports {
		list = append(list, fact{section: sectionPorts, name: p})
	}
	for _, m := range c.Run.Mounts {
		access := map[bool]string{true: "read-only", false: "read-write"}[m.ReadOnly]
		list = append(list, fact{section: sectionMounts, name: m.Destination, value: strings.TrimSuffix(m.Type+", "+access+", "+m.Directory, ", ")})
	}
	list = append(list, members(sectionSecurity, c.Run.Security)...)
	list = append(list, hookFact("before freeze", c.Hooks.BeforeFreeze), hookFact("after restore", c.Hooks.AfterRestore))
	list = append(list, members(sectionOptions, c.Checkpoint)...)
	list = append(list, members(sectionHost, c.Host)...)
	list = processFacts(list, c.Processes)
	list = append(list, socketFacts(c.Sockets)...)
	list = append(list, fileFacts(s.files)...)
	list = append(list, foundFacts(c)...)
	list = append(list, costs(s)...)
	return numbered(list)
}

// numbered tells facts of the same name apart by their order.
func numbered(list []fact) []fact {
	type key struct{ section, name string }
	seen := map[key]int{}
	for i, f := range list {
		k := key{f.section, f.name}
		if seen[k]++; seen[k] > 1 {
			list[i].name = fmt.Sprintf("%s #%d", f.name, seen[k])
		}
	}
	return list
}

func imageAndRun(c snapshot.Config) []fact {
	r := c.Run
	yes := map[bool]string{true: "yes", false: "no"}
	return []fact{
		{section: sectionImage, name: "reference", value: c.Image.Reference},
		{section: sectionImage, name: "id", value: c.Image.ID.String()},
		{section: sectionImage, name: "from", value: c.Image.RepoDigest},
		{section: sectionImage, name: "architecture", value: c.Image.Arch},
		{section: sectionRun, name: "command", value: strings.Join(r.Args, " "), hidden: text(r.Args)},
		{section: sectionRun, name: "user", value: orElse(r.User, "root")},
		{section: sectionRun, name: "working directory", value: orElse(r.WorkingDir, "/")},
		{section: sectionRun, name: "domain name", value: r.Domainname},
		{section: sectionRun, name: "terminal", value: yes[r.TTY]},
		{section: sectionRun, name: "standard input", value: yes[r.Stdin]},
	}
}

// members makes facts of a struct as its JSON has it, so that none is forgotten: an element of a list is a fact of its own.
func members(section string, v any) []fact {
	b, err := json.Marshal(v)
	var values map[string]any
	if err == nil {
		err = json.Unmarshal(b, &values)
	}
	if err != nil {
		return []fact{{section: section, name: "unreadable", value: err.Error()}}
	}
	var list []fact
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch v := values[name].(type) {
		case nil:
		case []any:
			for _, e := range v {
				list = append(list, fact{section: section, name: name + " " + text(e)})
			}
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				list = append(list, fact{section: section, name: name + " " + k, value: text(v[k])})
			}
		default:
			list = append(list, fact{section: section, name: name, value: text(v)})
		}
	}
	return list
}

// text is a string as it is, and anything else as JSON.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func hookFact(name string, hooks []hook.Hook) fact {
	var list []string
	for _, h := range hooks {
		list = append(list, h.String())
	}
	return fact{section: sectionHooks, name: name, value: strings.Join(list, ", "), hidden: text(hooks)}
}

// processFacts knows processes by their commands: process ids need not mean anything.
func processFacts(list []fact, processes []criu.Process) []fact {
	for _, p := range processes {
		list = processFacts(append(list, fact{section: sectionProcesses, name: p.Command, value: p.RSS}), p.Children)
	}
	return list
}

// socketFacts are the addresses at which the app can be reached.
func socketFacts(sockets []criu.Socket) (list []fact) {
	for _, s := range sockets {
		datagrams := s.Protocol == "udp" && s.Source != "" && s.Dest == ""
		f := fact{section: sectionSockets, name: s.Protocol + " " + orElse(s.Source, "unnamed")}
		if s.Device != "" {
			f.name += " at " + s.Device
		}
		if s.State == "LISTEN" || datagrams {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b fact) int { return strings.Compare(a.name, b.name) })
	return slices.Compact(list) // processes share them
}

func fileFacts(files []snapshot.LayerFile) (list []fact) {
	for _, f := range files {
		switch {
		case f.Opaque:
			list = append(list, fact{section: sectionFiles, name: f.Path + "/*", value: "deleted from the image"})
		case f.Deleted:
			list = append(list, fact{section: sectionFiles, name: f.Path, value: "deleted from the image"})
		default:
			value := fmt.Sprintf("%s %d:%d", f.Mode, f.UID, f.GID)
			if f.Mode.IsRegular() {
				value += fmt.Sprintf(", %d bytes", f.Size)
			}
			if f.Target != "" {
				value += ", link to " + f.Target
			}
			list = append(list, fact{section: sectionFiles, name: f.Path, value: value, hidden: f.Content.String()})
		}
	}
	slices.SortStableFunc(list, func(a, b fact) int { return strings.Compare(a.name, b.name) })
	return list
}

// foundFacts are what the build found out about the app.
func foundFacts(c snapshot.Config) []fact {
	found := map[string]any{"generators": c.Generators, "guard_regions": c.GuardRegions, "no_lazy": c.NoLazy}
	if c.Losses != nil {
		found["losses"] = *c.Losses
	}
	for name, files := range map[string][]criu.MountFile{"mount_files": c.MountFiles, "kept_files": c.KeptFiles} {
		var list []string
		for _, f := range files {
			list = append(list, f.Path+" on "+f.Mount)
		}
		found[name] = list
	}
	return members(sectionFound, found)
}

func costs(s compared) []fact {
	c := s.config
	list := []fact{
		{section: sectionSizes, name: "memory", value: c.Sizes.Memory},
		{section: sectionSizes, name: "images", value: c.Sizes.Checkpoint},
		{section: sectionSizes, name: "written files", value: c.Sizes.Rootfs},
		{section: sectionSizes, name: "files of mounts", value: c.Sizes.MountFiles},
		{section: sectionSizes, name: "stored", value: c.Sizes.Packed},
	}
	stored := map[string]int64{}
	for _, l := range s.layers {
		switch {
		case l.MediaType == snapshot.MediaTypePages && l.Annotations[snapshot.AnnotationFirst] == "true":
			stored["memory needed first"] += l.Size
		case l.MediaType == snapshot.MediaTypePages:
			stored["other memory"] += l.Size
		case l.MediaType == snapshot.MediaTypeFiles:
			stored["images"] += l.Size
		case l.MediaType == snapshot.MediaTypeRootfs:
			stored["written files"] += l.Size
		case l.MediaType == snapshot.MediaTypeMountFiles:
			stored["files of mounts"] += l.Size
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		list = append(list, fact{section: sectionLayers, name: name, value: stored[name]})
	}
	for _, step := range c.Timings {
		list = append(list, fact{section: sectionTimings, name: step.Step, value: step.Elapsed})
	}
	return list
}
