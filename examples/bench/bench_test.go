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
	o, err := parse([]string{"-n", "7", "-apps", "redmine", "-cpus", "1", "-podman=false"})
	require.NoError(t, err)
	assert.Equal(t, 7, o.rounds)
	assert.Equal(t, apps[:1], o.apps)
	assert.Equal(t, []int{1}, o.cpus)
	assert.False(t, o.podman)

	o, err = parse(nil)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, o.rounds, 5) // what the tables claim
	assert.Equal(t, apps, o.apps)

	for _, args := range [][]string{
		{"-n", "0"},
		{"-apps", "tiny"},
		{"-cpus", "0"},
		{"-cpus", strconv.Itoa(runtime.NumCPU() + 1)},
		{"-cpus", "1,two"},
	} {
		_, err := parse(args)
		assert.ErrorContains(t, err, args[0])
	}
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

// Two runs at once would measure each other.
func TestOneRunAtATime(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "bench")
	first, err := newWorkDir(parent)
	require.NoError(t, err)
	_, err = newWorkDir(parent)
	assert.ErrorContains(t, err, "another benchmark runs")
	require.NoError(t, first.remove())
	assert.NoDirExists(t, first.path)
	second, err := newWorkDir(parent)
	require.NoError(t, err)
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
