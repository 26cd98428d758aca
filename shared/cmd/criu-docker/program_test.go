package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// asProgram in the environment makes the test's binary the program itself.
const asProgram = "CRIU_DOCKER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience bounds what is bound to happen, on a machine that is slow and busy too.
const patience = 2 * time.Minute

// tinyImage is busybox httpd on port 80.
const tinyImage = "tiny:lab"

// program is the program with a store, a cache and a work directory of one test.
type program struct {
	*testing.T
	ctx   context.Context
	eng   *engine.Engine
	dir   string // store/, cache/, work/
	label string // is on every container of the test
}

// newProgram removes at the end whatever containers the test made.
func newProgram(t *testing.T) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	t.Cleanup(cancel)
	eng, err := engine.Connect(ctx, "")
	require.NoError(t, err, "these tests run inside a node of the lab: make test")
	t.Cleanup(func() { eng.Close() })
	dir, err := os.MkdirTemp("/var/lib/criu-docker", "cli-") // on a disk: it takes memory images
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	p := &program{T: t, ctx: ctx, eng: eng, dir: dir, label: "criu-docker-cli-test=" + filepath.Base(dir)}
	t.Cleanup(p.removeContainers)
	return p
}

func (p *program) removeContainers() {
	c, err := cache.Open(p.path("cache"), 0)
	require.NoError(p, err)
	for _, id := range p.containers() {
		require.NoError(p, restore.Remove(context.Background(), p.eng, c, id))
	}
}

// containers returns the ids of the containers that the test has made.
func (p *program) containers() []string {
	p.Helper()
	list, err := p.eng.Client.ContainerList(context.Background(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", p.label))})
	require.NoError(p, err)
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids
}

func (p *program) path(elem ...string) string {
	return filepath.Join(append([]string{p.dir}, elem...)...)
}

// outcome is what a run of the program came to.
type outcome struct {
	stdout, stderr string
	code           int
}

// command is a command line of the program, with the test's directories.
func (p *program) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", envStore+"="+p.path("store"), envCache+"="+p.path("cache"))
	return cmd
}

// call runs a command line to its end.
func (p *program) call(args ...string) outcome {
	p.Helper()
	var stdout, stderr bytes.Buffer
	cmd := p.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(p, err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// ok runs a command line that must succeed, and returns what it printed, without the last newline.
func (p *program) ok(args ...string) string {
	p.Helper()
	o := p.call(args...)
	require.Zero(p, o.code, "%v: %s", args, o.stderr)
	return strings.TrimSuffix(o.stdout, "\n")
}

// buildArgs is the command line of a build of the tiny image with flags.
func (p *program) buildArgs(flags ...string) []string {
	args := []string{"build", tinyImage, "--ready", "http://:80/", "--ready-timeout", "1m", "--build-dir", p.path("work"), "--label", p.label}
	return append(args, flags...)
}

// runArgs is the command line that starts a container with flags.
func (p *program) runArgs(target string, flags ...string) []string {
	return append([]string{"run", target, "--label", p.label}, flags...)
}

// documents decodes the lines of a JSON output.
func documents[T any](t testing.TB, output string) []T {
	t.Helper()
	var list []T
	for decoder := json.NewDecoder(strings.NewReader(output)); ; {
		var v T
		err := decoder.Decode(&v)
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err, output)
		list = append(list, v)
	}
}

// inspectContainer returns what the engine knows of a container.
func (p *program) inspectContainer(id string) container.InspectResponse {
	p.Helper()
	info, err := p.eng.Client.ContainerInspect(p.ctx, id)
	require.NoError(p, err)
	return info
}

// requireAnswer waits until url answers 200.
func requireAnswer(t testing.TB, url string) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	require.Eventually(t, func() bool {
		answer, err := client.Get(url)
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond, url)
}
