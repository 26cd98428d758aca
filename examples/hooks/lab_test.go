// Package hooks has, for each language runtime, a service that reseeds its generators when it is told that it is a clone. The
// tests run them in a node of the lab.
package hooks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// patience bounds what is bound to happen, on a machine that is slow and busy too.
const patience = 2 * time.Minute

// lab is a test's engine, store and cache.
type lab struct {
	ctx   context.Context
	eng   *engine.Engine
	store store.Store
	cache *cache.Cache
	label string
	hooks string // a copy of this directory that every user can read
}

func newLab(t *testing.T) *lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	t.Cleanup(cancel)
	eng, err := engine.Connect(ctx, "")
	require.NoError(t, err, "these tests run inside a node of the lab: make test")
	t.Cleanup(func() { eng.Close() })
	dir, err := os.MkdirTemp("/var/lib/criu-docker", "hooks-") // where there is room for memory
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.CopyFS(dir+"/hooks", os.DirFS(".")))
	s, err := store.Open(ctx, dir+"/store")
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	c, err := cache.Open(dir+"/cache", 0)
	require.NoError(t, err)
	l := &lab{ctx: ctx, eng: eng, store: s, cache: c, label: fmt.Sprint("hooks-", os.Getpid()), hooks: dir + "/hooks"}
	t.Cleanup(func() { l.removeContainers(t) })
	return l
}

func (l *lab) removeContainers(t *testing.T) {
	t.Helper()
	list, err := l.eng.Client.ContainerList(context.Background(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", l.label))})
	require.NoError(t, err)
	for _, c := range list {
		require.NoError(t, restore.Remove(context.Background(), l.eng, l.cache, c.ID))
	}
}

func (l *lab) spec(r runtime) engine.Spec {
	return engine.Spec{
		Config: &container.Config{Image: "runtimes:lab", Cmd: r.command, Labels: map[string]string{l.label: ""}},
		Host:   &container.HostConfig{Binds: []string{l.hooks + ":/hooks:ro"}},
	}
}

// build freezes a service that has used its generators. Its clones have its hook.
func (l *lab) build(t *testing.T, r runtime) {
	t.Helper()
	h, err := hook.Parse(r.hook)
	require.NoError(t, err)
	h.Timeout = patience
	_, err = build.Snapshot(l.ctx, l.eng, build.Options{
		Spec: l.spec(r), Ready: build.Probe{Type: build.ProbeHTTP, Port: 8080, Timeout: patience},
		Warmup:     []build.WarmupRequest{{Method: http.MethodGet, Path: "/random", Port: 8080}},
		Checkpoint: criu.DefaultOptions(), Store: l.store, NoProfile: true,
		Hooks: hook.Hooks{AfterRestore: []hook.Hook{h}},
	})
	require.NoError(t, err)
}

// clone starts one, with the hooks, if not nil, in place of the snapshot's, and returns its address.
func (l *lab) clone(r runtime, hooks []hook.Hook) (ip string, err error) {
	result, err := restore.Run(l.ctx, l.eng, restore.Options{Spec: l.spec(r), Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, AfterRestore: hooks})
	if err != nil {
		return "", err
	}
	c, err := l.eng.Client.ContainerInspect(l.ctx, result.ContainerID)
	if err != nil {
		return "", err
	}
	return c.NetworkSettings.Networks["bridge"].IPAddress, nil
}

// ask returns what a service made of its generators.
func ask(ctx context.Context, ip string) (map[string]any, error) {
	body, err := request(ctx, http.MethodGet, "http://"+ip+":8080/random", nil)
	if err != nil {
		return nil, err
	}
	values := map[string]any{}
	if err := json.Unmarshal(body, &values); err != nil {
		return nil, fmt.Errorf("%w in %s", err, body)
	}
	return values, nil
}

func request(ctx context.Context, method, url string, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, url, resp.Status)
	}
	return answer, err
}
