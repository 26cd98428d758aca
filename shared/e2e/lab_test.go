// Package e2e tests the core as a whole, on a real Docker Engine with the runtime criu-docker: `make test` runs it
// inside a node of the lab.
package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

const (
	tiny    = "tiny:lab"    // busybox httpd on port 80
	redmine = "redmine:lab" // Ruby, SQLite, puma on port 3000
	runDir  = ociruntime.RunDir(ociruntime.DefaultRunDir)
)

// patience bounds what is bound to happen, on a machine that is slow and busy too.
const patience = 2 * time.Minute

// lab is one test's engine, store, cache and containers.
type lab struct {
	*testing.T
	ctx   context.Context
	eng   *engine.Engine
	store store.Store
	cache *cache.Cache
	label string
	dir   string // store/ and cache/
	// memory is how it comes back in the clones that run starts.
	memory restore.Memory
	// profiled is what the last build said of its profile.
	profiled string

	witness
	criuDirs []string // what there was before the test
}

// newLab removes at the end whatever containers the test made, and fails it if the core left anything else of them.
func newLab(t *testing.T) *lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	t.Cleanup(cancel)
	eng, err := engine.Connect(ctx, "")
	require.NoError(t, err, "these tests run inside a node of the lab: make test")
	t.Cleanup(func() { eng.Close() })

	// Next to the default cache: clones are hard links to the cache, so a tmpfs would hold the memory images.
	dir, err := os.MkdirTemp("/var/lib/criu-docker", "e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	s, err := store.Open(ctx, dir+"/store")
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	c, err := cache.Open(dir+"/cache", 0)
	require.NoError(t, err)

	l := &lab{T: t, ctx: ctx, eng: eng, store: s, cache: c, label: fmt.Sprintf("e2e=%s-%d", t.Name(), os.Getpid()), dir: dir, criuDirs: criuDirs()}
	l.watch(ctx, eng, l.label)
	t.Cleanup(l.removeContainers)
	return l
}

func (l *lab) removeContainers() {
	for _, c := range l.containers() {
		require.NoError(l, restore.Remove(context.Background(), l.eng, l.cache, c.ID))
	}
	l.nothingIsLeft()
	clones, err := l.cache.Clones()
	require.NoError(l, err)
	require.Empty(l, clones)
}

// containers lists what the test has made and not removed.
func (l *lab) containers() []container.Summary {
	l.Helper()
	list, err := l.eng.Client.ContainerList(context.Background(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", l.label))})
	require.NoError(l, err)
	return list
}

// spec is a container of image with a command ("" takes the image's) run by sh.
func (l *lab) spec(image, script string) engine.Spec {
	key, value, _ := strings.Cut(l.label, "=")
	config := &container.Config{Image: image, Labels: map[string]string{key: value}}
	if script != "" {
		config.Entrypoint = []string{"/bin/busybox", "sh", "-c", script}
	}
	return engine.Spec{Config: config, Host: &container.HostConfig{}}
}

var tinyReady = build.Probe{Type: build.ProbeHTTP, Port: 80, Timeout: time.Minute}

// build publishes a snapshot of spec.
func (l *lab) build(spec engine.Spec, ready build.Probe) *build.Result {
	l.Helper()
	result, err := l.tryBuild(spec, ready, criu.DefaultOptions())
	require.NoError(l, err)
	return result
}

func (l *lab) tryBuild(spec engine.Spec, ready build.Probe, options criu.Options) (*build.Result, error) {
	return build.Snapshot(l.ctx, l.eng, build.Options{Spec: spec, Ready: ready, Checkpoint: options, Store: l.store, OnEvent: func(e build.Event) {
		if e.Step == "profile" && e.Done {
			l.profiled = e.Message
		}
	}})
}

// run starts a container and returns it with the name of the start.
func (l *lab) run(spec engine.Spec, policy restore.Policy) *restore.Result {
	l.Helper()
	result, err := l.tryRun(spec, policy)
	require.NoError(l, err)
	return result
}

func (l *lab) tryRun(spec engine.Spec, policy restore.Policy) (*restore.Result, error) {
	return restore.Run(l.ctx, l.eng, restore.Options{Spec: spec, Policy: policy, Store: l.store, Cache: l.cache, Memory: l.memory})
}

// ip returns where a bridged container is reached.
func (l *lab) ip(id string) string {
	l.Helper()
	return l.inspect(id).NetworkSettings.Networks["bridge"].IPAddress
}

// get returns the body of a successful answer; a failed attempt is an error.
func (l *lab) get(url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return string(body), err
}

// mustGet waits until url answers 200.
func (l *lab) mustGet(url string) (body string) {
	l.Helper()
	l.eventually(func() bool {
		var err error
		body, err = l.get(url)
		return err == nil
	}, "GET "+url)
	return body
}

// sh runs a script in a container and returns its output.
func (l *lab) sh(id, script string) string {
	l.Helper()
	return l.output(id, "/bin/busybox", "sh", "-c", script)
}

// output runs a command in a container and returns what it writes.
func (l *lab) output(id string, command ...string) string {
	l.Helper()
	created, err := l.eng.Client.ContainerExecCreate(l.ctx, id, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	require.NoError(l, err)
	attached, err := l.eng.Client.ContainerExecAttach(l.ctx, created.ID, container.ExecAttachOptions{})
	require.NoError(l, err)
	defer attached.Close()
	var out strings.Builder
	_, err = stdcopy.StdCopy(&out, &out, attached.Reader)
	require.NoError(l, err)
	return strings.TrimSpace(out.String())
}

func (l *lab) inspect(id string) container.InspectResponse {
	l.Helper()
	c, err := l.eng.Client.ContainerInspect(l.ctx, id)
	require.NoError(l, err)
	return c
}

func (l *lab) state(id string) *container.State {
	l.Helper()
	return l.inspect(id).State
}

// eventually waits until condition holds.
func (l *lab) eventually(condition func() bool, what string) {
	l.Helper()
	require.Eventually(l, condition, patience, 20*time.Millisecond, what)
}

// logs returns what a container wrote.
func (l *lab) logs(id string) string {
	l.Helper()
	out, err := l.eng.LastOutput(l.ctx, id, 1000)
	require.NoError(l, err)
	return out
}
