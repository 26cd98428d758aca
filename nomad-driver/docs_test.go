package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/stretchr/testify/require"
)

// docs/nomad.md has a table row for every option of both schemas, and none for anything else.
func TestDocsNameEveryOption(t *testing.T) {
	page, err := os.ReadFile("../docs/nomad.md")
	require.NoError(t, err)
	sections := strings.Split(string(page), "\n## ")
	for title, spec := range map[string]*hclspec.Spec{"Plugin configuration": configSpec, "Task configuration": taskConfigSpec} {
		var section string
		for _, s := range sections {
			if strings.HasPrefix(s, title+"\n") {
				section = s
			}
		}
		require.NotEmpty(t, section, title)
		var documented []string
		for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(section, -1) {
			for _, name := range regexp.MustCompile("`([a-z0-9_.]+)`").FindAllStringSubmatch(row[1], -1) {
				documented = append(documented, name[1])
			}
		}
		require.ElementsMatch(t, options("", spec), documented, title)
	}
}

// options lists what a schema accepts, as block.attribute. The two names of mount blocks are one option.
func options(path string, spec *hclspec.Spec) []string {
	switch {
	case spec.GetDefault() != nil:
		return options(path, spec.GetDefault().GetPrimary())
	case spec.GetBlockValue() != nil:
		return options(path, spec.GetBlockValue().GetNested())
	case spec.GetBlockList() != nil:
		return options(path, spec.GetBlockList().GetNested())
	case spec.GetObject() == nil:
		return []string{path}
	}
	var all []string
	for name, attribute := range spec.GetObject().GetAttributes() {
		switch {
		case path == "" && name == "mounts":
			continue
		case path != "":
			name = path + "." + name
		}
		all = append(all, options(name, attribute)...)
	}
	return all
}
