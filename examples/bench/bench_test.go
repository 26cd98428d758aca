package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-n", "7", "-few", "2", "-apps", "redmine,ballast-1g", "-cpus", "1", "-podman=false"})
	require.NoError(t, err)
	assert.Equal(t, 7, o.rounds)
	assert.Equal(t, 2, o.few)
	assert.Equal(t, services[:1], o.services)
	assert.Equal(t, []app{ballast("1g", 1024)}, o.ballasts)
	assert.Equal(t, []int{1}, o.cpus)
	assert.False(t, o.podman)

	o, err = parse(nil)
	require.NoError(t, err)
	assert.True(t, o.full)
	assert.GreaterOrEqual(t, o.rounds, 10) // what the tables claim
	assert.Equal(t, services, o.services)
	assert.Equal(t, ballasts, o.ballasts)
	crowded, ok := o.crowded()
	assert.True(t, ok)
	assert.Equal(t, services[0], crowded)
	assert.Equal(t, 3, o.versions())

	o, err = parse([]string{"-suite", "quick"})
	require.NoError(t, err)
	assert.Equal(t, services, o.services)
	assert.Empty(t, o.ballasts)
	_, ok = o.crowded()
	assert.False(t, ok)
	assert.Equal(t, 1, o.versions())

	for _, args := range [][]string{
		{"-n", "0"},
		{"-few", "0"},
		{"-suite", "slow"},
		{"-apps", "tiny"},
		{"-cpus", "0"},
		{"-cpus", strconv.Itoa(runtime.NumCPU() + 1)},
		{"-cpus", "1,two"},
	} {
		_, err := parse(args)
		assert.ErrorContains(t, err, args[0])
	}
}

// Variants have a snapshot each, because their environments differ, and nothing else does.
func TestVariants(t *testing.T) {
	base := services[0]
	list := variants(base)
	require.Len(t, list, crowd)
	seen := map[string]bool{}
	for _, v := range list {
		spec := v.spec("run", 1)
		require.Len(t, spec.Config.Env, 1)
		seen[spec.Config.Env[0]] = true
		spec.Config.Env = nil
		assert.Equal(t, base.spec("run", 1), spec)
	}
	assert.Len(t, seen, crowd)
	assert.Empty(t, base.env)
	assert.Equal(t, []string{"4096"}, []string(ballasts[3].spec("run", 1).Config.Cmd))
}

// Every round starts hot and cold, so that they can be compared within it; the rest of the series is in a few rounds.
func TestCrowdSteps(t *testing.T) {
	b := &bench{opts: options{rounds: 10, few: 1}}
	paths := func(round int) (list []string) {
		for _, s := range b.crowdSteps(t.Context(), services[0], round) {
			assert.Equal(t, crowdApp, s.app.name)
			list = append(list, s.path)
		}
		return list
	}
	assert.Equal(t, []string{"cold_x8", "hot_x2", "hot_x4", "hot_x8", "hot_x16", "hot_x8_apps"}, paths(0))
	assert.Equal(t, []string{"cold_x8", "hot_x8"}, paths(1))
}

// The clock stops at the first 200, not at the first answer.
func TestFirstAnswer(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch requests.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		}
	}))
	defer s.Close()
	require.NoError(t, firstAnswer(t.Context(), s.URL))
	assert.EqualValues(t, 3, requests.Load())

	ctx, cancel := context.WithCancel(t.Context())
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		cancel()
	}))
	defer broken.Close()
	assert.ErrorIs(t, firstAnswer(ctx, broken.URL), context.Canceled)
}

// Memory is asked for once: a second answer would hide a wrong first one.
func TestOneAnswer(t *testing.T) {
	var requests atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	assert.ErrorContains(t, oneAnswer(t.Context(), s.URL), "500")
	assert.NoError(t, oneAnswer(t.Context(), s.URL))
}

// Two runs at once would measure each other.
func TestOneRunAtATime(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "bench")
	first, err := newWorkDir(parent)
	require.NoError(t, err)
	_, err = newWorkDir(parent)
	assert.ErrorContains(t, err, "another benchmark runs")
	require.NoError(t, first.remove())
	assert.NoDirExists(t, first.path)
	killed := filepath.Join(parent, "run-1")
	require.NoError(t, os.Mkdir(killed, 0o700))
	second, err := newWorkDir(parent)
	require.NoError(t, err)
	assert.NoDirExists(t, killed, "of a run that was killed")
	require.NoError(t, second.remove())
}

func TestPin(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { require.NoError(t, cmd.Wait()) }()
	defer in.Close()
	var first unix.CPUSet
	first.Set(0)
	require.NoError(t, pinThreads(cmd.Process.Pid, first))
	require.NoError(t, checkProcessPinned(cmd.Process.Pid, 1))
	assert.ErrorContains(t, checkProcessPinned(cmd.Process.Pid, 2), "may run on CPUs 0,")
}

func TestTarGzip(t *testing.T) {
	dir := t.TempDir()
	noise := make([]byte, 1<<20)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "noise"), noise, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "zeros"), make([]byte, 8<<20), 0o600))
	n, err := tarGzip(t.Context(), dir)
	require.NoError(t, err)
	assert.Greater(t, n, int64(1<<20))
	assert.Less(t, n, int64(2<<20))
	_, err = tarGzip(t.Context(), filepath.Join(dir, "absent"))
	assert.Error(t, err)
}

// Podman's checkpoint waits for connections to end, and for nothing else.
func TestConnected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	lines := func() string { // of this test's port; the machine has other connections
		table, err := os.ReadFile("/proc/self/net/tcp")
		require.NoError(t, err)
		port := fmt.Sprintf(":%04X ", l.Addr().(*net.TCPAddr).Port)
		mine := "header\n"
		for line := range strings.Lines(string(table)) {
			if strings.Contains(line, port) {
				mine += line
			}
		}
		return mine
	}
	assert.True(t, connected(lines()))
	require.NoError(t, client.Close())
	assert.True(t, connected(lines())) // the app's half is open
	require.NoError(t, server.Close())
	assert.Eventually(t, func() bool { return !connected(lines()) }, answerTimeout, pollInterval)
}
