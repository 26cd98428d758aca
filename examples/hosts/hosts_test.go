package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample are the lanes of every run of the tests, beside the usual node, where all other tests run; make hosts tries all.
var sample = []string{"cgroup2", "systemd", "docker29"}

func TestLanes(t *testing.T) {
	require.Zero(t, os.Geteuid(), "it brings labs up: run it as root")
	lab := os.Getenv("LAB_DIR")
	require.NotEmpty(t, lab, "set LAB_DIR, as make test does")
	s := suite{
		lab: filepath.Join(lab, "bin/lab"), bin: "../../bin", packages: "../../out/draft", older: "../../out/older", readme: "../../README.md",
		dir: lab + "-lanes", out: t.TempDir(),
	}
	for _, name := range sample {
		l, err := laneNamed(name)
		require.NoError(t, err)
		s.lanes = append(s.lanes, l)
	}
	require.NoError(t, s.run(t.Context()))
}

func TestReadmeScript(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	script, err := readmeScript(string(readme))
	require.NoError(t, err)
	require.Contains(t, script, "criu-docker run ")
	_, err = readmeScript("# criu-docker\n")
	require.Error(t, err)
}

func TestPage(t *testing.T) {
	page := page(map[string]result{"node": {
		Versions: map[string]string{"docker": "28.5.2"},
		Steps: map[string]outcome{
			"build": {Works: true}, "limits": {Works: true, Note: errSkipped.Error() + ": no controller"}, "stop": {Note: "a | b\nc"},
		},
	}})
	var cells []string
	for _, s := range steps {
		cells = append(cells, map[string]string{"build": "✓", "stop": "**no**"}[s.Name])
	}
	want := strings.ReplaceAll("| node | "+strings.Join(cells, " | ")+" |", "|  |", "| – |")
	require.Contains(t, page, strings.ReplaceAll(want, "|  |", "| – |")) // neighbours share a bar
	require.Contains(t, page, "- node, stop: a | b c\n")
	require.Contains(t, page, "- node, limits: not tried: no controller\n")
}

func TestResultIsCheckedAgainstTheSteps(t *testing.T) {
	all := result{Steps: map[string]outcome{}}
	for _, s := range steps {
		all.Steps[s.Name] = outcome{Works: true}
	}
	require.NoError(t, all.check(lanes[0]))
	delete(all.Steps, "readme")
	require.NoError(t, all.check(lanes[0]))
	require.ErrorContains(t, all.check(lane{Name: "deb", Packages: true}), "deb: readme: it was not tried")
	all.Steps["stop"] = outcome{Note: "exit code 137"}
	require.ErrorContains(t, all.check(lanes[0]), "node: stop: exit code 137")
}
