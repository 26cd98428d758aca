package main

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/store"
)

// An error in a command line names the flag, the value that was given, and what may stand there.
func TestWrongUsage(t *testing.T) {
	build := func(flags ...string) []string {
		return append([]string{"build", "image", "--ready", "tcp://:80"}, flags...)
	}
	start := func(flags ...string) []string { return append([]string{"run", "image"}, flags...) }
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"biuld"}, []string{`"biuld"`, "criu-docker --help"}},
		{[]string{"ls", "--no-such-flag"}, []string{"--no-such-flag", "criu-docker ls --help"}},
		{[]string{"build", "image"}, []string{"--ready is missing", "http://:3000/login"}},
		{[]string{"build", "--ready", "tcp://:80"}, []string{"an image is missing", "criu-docker build --help"}},
		{build("sh"), []string{`"sh"`, "comes after --"}},
		{build("--ready", "ftp://:21"), []string{"--ready", `"ftp://:21"`, "http://:PORT/PATH"}},
		{build("--ready", "http://web:80/"), []string{"--ready", `"http://web:80/"`, "no host"}},
		{build("--ready", "log:("), []string{"--ready", `"log:("`, "regular expression"}},
		{build("--ready-timeout", "0s"), []string{"--ready-timeout 0s", "above 0"}},
		{build("--ready-timeout", "soon"), []string{"--ready-timeout", `"soon"`}},
		{build("--ready-status", "200"), []string{"--ready-status 200", "http probe"}},
		{build("--ready", "http://:80", "--ready-status", "20"), []string{"--ready-status 20", "100 to 599"}},
		{build("--warmup", "login"), []string{"--warmup", `"login"`, "GET /login"}},
		{build("--warmup", "GET :99999/"), []string{"--warmup", `"99999"`, "not a port"}},
		{build("--ready", "log:up", "--warmup", "GET /"), []string{"--warmup", `"GET /"`, ":3000/login"}},
		{build("--warmup-count", "0"), []string{"--warmup-count 0", "1 or more"}},
		{build("--tcp", "keep"), []string{"--tcp", `"keep"`, `"close" or "established"`}},
		{build("--ghost-limit", "huge"), []string{"--ghost-limit", `"huge"`, "64MiB"}},
		{build("-t"), []string{"--tty", "without one"}},
		{build("--store", "s3://bucket"), []string{"--store", `"s3://bucket"`, "gs://bucket/prefix"}},
		{build("-H", "nonsense"), []string{"--host", `"nonsense"`, "unix:///PATH"}},
		{[]string{"run"}, []string{"an image is missing", "criu-docker run --help"}},
		{start("--policy", "maybe"), []string{"--policy", `"maybe"`, "never, if_present or always"}},
		{start("--restore-memory", "512m"), []string{"--restore-memory", `"512m"`, "lazy, eager or auto", "--memory"}},
		{start("--timeout", "-1s"), []string{"--timeout -1s", "above 0"}},
		{start("--policy", "never", "--ref", "0123"), []string{"--ref 0123", "another policy"}},
		{start("--timeline=start.png"), []string{"--timeline", `"start.png"`, ".svg, .html or .json"}},
		{start("--timeline=/no/such/start.svg"), []string{"--timeline", `"/no/such/start.svg"`, "no directory /no/such"}},
		{start("--until", "login"), []string{"--until", `"login"`, "http://:PORT/PATH"}},
		{start("-p", "80:http"), []string{"--publish", "80:http"}},
		{start("--restart", "sometimes"), []string{"--restart", "sometimes"}},
		{start("--memory", "lots"), []string{"--memory", `"lots"`}},
		{start("--env-file", "/no/such"), []string{"--env-file", "/no/such"}},
		{start("--host", "nonsense"), []string{"--host", `"nonsense"`, "unix:///PATH"}},
		{[]string{"cache", "ls", "--cache-size", "big"}, []string{"--cache-size", `"big"`, "20GiB"}},
		{[]string{"ls", "--store", "gs:/bucket"}, []string{"--store", `"gs:/bucket"`, "gs://bucket/prefix"}},
		{[]string{"ls", "a", "b"}, []string{"criu-docker ls --help"}},
		{[]string{"inspect"}, []string{"criu-docker inspect --help"}},
		{[]string{"diff", "0123"}, []string{"criu-docker diff --help"}},
		{[]string{"verify"}, []string{"criu-docker verify --help"}},
		{[]string{"doctor", "now"}, []string{`"now"`, "criu-docker doctor --help"}},
		{[]string{"cache", "clear"}, []string{`"clear"`, "criu-docker cache --help"}},
		{[]string{"runtime", "remove"}, []string{`"remove"`, "criu-docker runtime --help"}},
	} {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, exitUsage, run(test.args, &stdout, &stderr), stderr.String())
			require.Empty(t, stdout.String())
			for _, want := range test.want {
				require.Contains(t, stderr.String(), want)
			}
			require.Equal(t, 1, bytes.Count(stderr.Bytes(), []byte("criu-docker: ")), "the error is printed once")
		})
	}
}

func TestExitCodes(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run([]string{"--help"}, &stdout, &stderr))
	require.Contains(t, stdout.String(), "Exit codes: 0 success")
	for _, args := range [][]string{{"run", "image", "--policy", "never"}, {"build", "image", "--ready", "tcp://:80"}, {"cache", "prune"}} {
		stderr.Reset()
		require.Equal(t, exitEngine, run(append(args, "-H", "unix:///no/docker.sock", "--store", t.TempDir(), "--cache", t.TempDir()), &stdout, &stderr))
		require.Contains(t, stderr.String(), "unix:///no/docker.sock")
		require.Contains(t, stderr.String(), "is dockerd running")
	}
	stderr.Reset()
	require.Equal(t, exitFailure, run([]string{"cache", "ls", "--cache", "/proc/version"}, &stdout, &stderr))
	require.Contains(t, stderr.String(), "--cache: cache directory /proc/version: ")

	ended, end := context.WithCancelCause(context.Background())
	end(interrupted{syscall.SIGTERM})
	alive := context.Background()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{alive, nil, 0},
		{alive, errReported, 1},
		{alive, fmt.Errorf("a blob: %w", store.ErrNotFound), 1},
		{alive, usageError{fmt.Errorf("--x: %w", store.ErrNotFound)}, 2},
		{alive, noSnapshotError{store.ErrNotFound}, 3},
		{alive, fmt.Errorf("start: %w", restore.ErrNoSnapshot), 3},
		{alive, fmt.Errorf("start: %w", engine.ErrUnreachable), 125},
		{ended, context.Canceled, 143},
		{ended, nil, 0},
	} {
		require.Equal(t, test.want, exitCode(test.ctx, test.err), "%v", test.err)
	}
}
