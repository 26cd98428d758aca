package build

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
)

func TestProbesThatMeanNothing(t *testing.T) {
	for reason, p := range map[string]Probe{
		"type":                     {},
		"port = 0":                 {Type: ProbeHTTP},
		"port = 65536":             {Type: ProbeTCP, Port: 65536},
		`path = "login"`:           {Type: ProbeHTTP, Port: 80, Path: "login"},
		"command is empty":         {Type: ProbeExec},
		`pattern = ""`:             {Type: ProbeLog},
		`pattern = "(": want a re`: {Type: ProbeLog, Pattern: "("},
	} {
		require.ErrorContains(t, p.validate(), reason)
	}
	for _, p := range []Probe{
		{Type: ProbeHTTP, Port: 80}, {Type: ProbeTCP, Port: 1}, {Type: ProbeExec, Command: []string{"true"}}, {Type: ProbeLog, Pattern: "Listening"},
	} {
		require.NoError(t, p.validate())
	}
}

// app is what a donor serves.
func app(t *testing.T, handler http.HandlerFunc) (addr string, port int) {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	addr, number, err := net.SplitHostPort(s.Listener.Addr().String())
	require.NoError(t, err)
	port, err = strconv.Atoi(number)
	require.NoError(t, err)
	return addr, port
}

func TestHTTPProbe(t *testing.T) {
	addr, port := app(t, func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(filepath.Base(r.URL.Path))
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(status)
	})
	for _, tt := range []struct {
		answered, wanted int
		ready            bool
	}{
		{200, 0, true}, {204, 0, true}, {302, 0, true}, {404, 0, false}, {503, 0, false}, {401, 401, true}, {200, 401, false},
	} {
		p := Probe{Type: ProbeHTTP, Port: port, Path: "/" + strconv.Itoa(tt.answered), Status: tt.wanted}
		err := p.attempt(t.Context(), nil, "", addr)
		if tt.ready {
			require.NoError(t, err, tt)
		} else {
			require.ErrorContains(t, err, "answered "+strconv.Itoa(tt.answered))
		}
	}
}

func TestFailingProbeQuotesTheAppsFirstLine(t *testing.T) {
	for answer, quote := range map[string]string{
		"":                             "answered 500 Internal Server Error",
		"\n no database\nat main.rb:1": `answered 500 Internal Server Error: "no database"`,
		"\x1b[31mred":                  `answered 500 Internal Server Error: "\x1b[31mred"`,
		strings.Repeat("x", 1000):      `answered 500 Internal Server Error: "` + strings.Repeat("x", longestQuote) + `"`,
	} {
		addr, port := app(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, answer)
		})
		require.EqualError(t, Probe{Type: ProbeHTTP, Port: port}.attempt(t.Context(), nil, "", addr), "GET / "+quote)
	}
}

func TestTCPProbe(t *testing.T) {
	addr, port := app(t, nil)
	require.NoError(t, Probe{Type: ProbeTCP, Port: port}.attempt(t.Context(), nil, "", addr))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	closed := l.Addr().(*net.TCPAddr).Port
	require.ErrorContains(t, Probe{Type: ProbeTCP, Port: closed}.attempt(t.Context(), nil, "", addr), "connection refused")
}

func TestProbeWithoutANetwork(t *testing.T) {
	err := Probe{Type: ProbeHTTP, Port: 80}.wait(t.Context(), nil, "", "")
	require.ErrorContains(t, err, "use an exec or log probe")
}

func TestWarmupSendsWhatWasAskedFor(t *testing.T) {
	var got []string
	addr, port := app(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.Host+r.URL.String()+" "+r.Header.Get("Accept")+" "+string(body))
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	w := WarmupRequest{
		Method: http.MethodPost, Path: "/login?x=1", Header: map[string]string{"host": "www.example.org", "Accept": "text/html"}, Body: "a=b", Count: 2,
	}
	require.NoError(t, w.send(t.Context(), addr, port))
	const once = "POST www.example.org/login?x=1 text/html a=b"
	require.Equal(t, []string{once, once}, got)
	require.ErrorContains(t, WarmupRequest{Path: "/broken"}.send(t.Context(), addr, port), "GET /broken answered 500")
	require.ErrorContains(t, WarmupRequest{Path: "/", Status: 302}.send(t.Context(), addr, port), "GET / answered 200")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, w.send(ctx, addr, port), context.Canceled)
}

func TestOptionsThatMeanNothing(t *testing.T) {
	whole := Options{Spec: engine.Spec{Config: &container.Config{Image: "web"}}, Ready: Probe{Type: ProbeTCP, Port: 80}, Checkpoint: criu.DefaultOptions()}
	require.ErrorContains(t, Options{}.validate(), "name the image to boot")
	require.ErrorContains(t, whole.validate(), "name a store")
	terminal := whole
	terminal.Spec.Config = &container.Config{Image: "web", Tty: true}
	require.ErrorContains(t, terminal.validate(), "terminal")
}

func TestDonorIsWhatWasAskedForButForWhatNobodyIsToReach(t *testing.T) {
	asked := Options{Spec: engine.Spec{
		Config: &container.Config{Image: "web", Labels: map[string]string{"mine": "1"}},
		Host: &container.HostConfig{
			PublishAllPorts: true, AutoRemove: true, RestartPolicy: container.RestartPolicy{Name: "always"}, ReadonlyRootfs: true,
		},
	}}
	spec, err := donorSpec(asked, "/work/build-1")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"mine": "1", buildLabel: "/work/build-1"}, spec.Config.Labels)
	require.Equal(t, &container.HostConfig{ReadonlyRootfs: true}, spec.Host)
	require.True(t, asked.Spec.Host.AutoRemove, "the request itself is not changed")
	require.NotContains(t, asked.Spec.Config.Labels, buildLabel)
}

func TestNomadGivesTasksTheirDirectories(t *testing.T) {
	work := t.TempDir()
	asked := Options{Nomad: true, Spec: engine.Spec{Config: &container.Config{Image: "web", Env: []string{"A=1"}}, Host: &container.HostConfig{Binds: []string{"/a:/a"}}}}
	spec, err := donorSpec(asked, work)
	require.NoError(t, err)
	require.Equal(t, []string{"/a:/a", work + "/nomad/alloc:/alloc", work + "/nomad/local:/local", work + "/nomad/secrets:/secrets"}, spec.Host.Binds)
	require.Equal(t, []string{"A=1", "NOMAD_ALLOC_DIR=/alloc", "NOMAD_TASK_DIR=/local", "NOMAD_SECRETS_DIR=/secrets"}, spec.Config.Env)
	info, err := os.Stat(work + "/nomad/secrets")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o777), info.Mode().Perm(), "whoever the task runs as")
	require.FileExists(t, work+"/nomad/local/criu-docker.env", "hooks read it")
	require.FileExists(t, work+"/nomad/secrets/criu-docker.env")
	require.Equal(t, []string{"/a:/a"}, asked.Spec.Host.Binds)
}
