// Package version says what the running program was built from. Go notes it in every program that it builds in a checkout:
// the version goes by the newest tag (v1.2.3) before the commit. No linker flags are needed, and all programs of one build agree.
package version

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Development is the version of a program whose build did not look at Git.
const Development = "dev"

// Info is what is known of a program.
type Info struct {
	// Version is 1.2.3 for a tagged commit, 1.2.4-0.20260102150405-0123456789ab for a later one, with +dirty after it if the
	// checkout had changes, or Development.
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // the commit
	Date     string `json:"date,omitempty"`     // of the commit, RFC 3339, UTC
	Modified bool   `json:"modified,omitempty"` // the checkout had changes that were not committed
	Go       string `json:"go"`                 // version of the toolchain
}

// Get returns what the running program was built from.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return Info{Version: Development, Go: runtime.Version()}
	}
	return Of(build)
}

// Of returns the same of a program that was read with debug/buildinfo.
func Of(build *debug.BuildInfo) Info {
	info := Info{Version: strings.TrimPrefix(build.Main.Version, "v"), Go: build.GoVersion}
	if info.Version == "" || info.Version == "(devel)" {
		info.Version = Development
	}
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value
		case "vcs.time":
			info.Date = s.Value
		case "vcs.modified":
			info.Modified = s.Value == "true"
		}
	}
	return info
}

// Line is the version, the commit and its date, as far as they are known.
func (i Info) Line() string {
	return strings.Join(strings.Fields(strings.Join([]string{i.Version, i.Revision, i.Date, i.Go}, " ")), " ")
}

// Semantic is a version even where nothing is known: programs that load ours accept no other word in its place.
func (i Info) Semantic() string {
	if i.Version == Development {
		return "0.0.0-" + Development
	}
	return i.Version
}
