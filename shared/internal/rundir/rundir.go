// Package rundir owns the directory for what lasts as long as the running machine does.
package rundir

import (
	"io/fs"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// Path is where it is unless a test says otherwise.
const Path = "/run/criu-docker"

// HostFile keeps what this host is to CRIU. Every user may read it, and nothing else.
const HostFile = "host.json"

// kind is that of the directory, which any of our processes may have to make. Before there were markers, it had some of these in it.
var kind = owned.Kind{Name: "run", Version: 1, Mode: 0o711, Known: func(entries map[string]fs.FileMode) bool {
	for name, mode := range entries {
		switch name {
		case "attended", "containers", "losses", "netns", "queue", "requests", "shim":
			if mode != fs.ModeDir {
				return false
			}
		case HostFile:
			if mode != 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}}

// Make returns the run directory at path, which is made if needed; owned.ErrForeign if something else is there.
func Make(path string) (owned.Dir, error) { return kind.Make(path) }
