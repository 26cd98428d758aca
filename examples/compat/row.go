package main

import (
	"slices"

	"github.com/docker/docker/api/types/container"
)

// row is one app or one kernel resource that is tried. Its outcome is a row of docs/compatibility.md.
type row struct {
	// Name is unique: "PostgreSQL", "inotify on the container's disk".
	Name string
	// Image is one of the lab's: apps, servers or resources.
	Image string
	// Command starts it, with apps/ and resources/ below /compat.
	Command []string
	Env     []string
	User    string // "" means the image's, which isn't root
	// Path is what is asked of it by HTTP on port 8080: it answers 200 when it works.
	Path string
	// Exec, in place of Path, is a command in the container that ends with 0 when it works.
	Exec []string
	// Hook tells clones that they are clones, in the command line's spelling; "" means none.
	Hook string
	// Random is what is asked, as Path or a shell's command in the container (by Exec), for something that no two clones may have in common.
	Random string
	// Host, if not nil, changes how the container is run.
	Host func(*container.HostConfig)
	// Note says what the user should know or set, in a sentence of Markdown.
	Note string
	// Limit matches the error of what can't be frozen or restored. It holds until it doesn't: a row that works all the same fails the suite.
	Limit string
}

// The images.
const (
	apps      = "compat-apps:lab"
	servers   = "compat-servers:lab"
	resources = "compat-resources:lab"
)

// rows are all that is tried, in the order of the page.
func rows() []row { return slices.Concat(appRows, resourceRows) }
