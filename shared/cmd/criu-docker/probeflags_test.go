package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
)

func TestParseProbe(t *testing.T) {
	for text, want := range map[string]build.Probe{
		"http://:3000/login":    {Type: build.ProbeHTTP, Port: 3000, Path: "/login"},
		"http://:3000":          {Type: build.ProbeHTTP, Port: 3000, Path: "/"},
		"http://:80/a?b=c%20d":  {Type: build.ProbeHTTP, Port: 80, Path: "/a?b=c%20d"},
		"tcp://:6379":           {Type: build.ProbeTCP, Port: 6379},
		"exec:test -e /tmp/up":  {Type: build.ProbeExec, Command: []string{"/bin/sh", "-c", "test -e /tmp/up"}},
		"log:^Listening on:.*$": {Type: build.ProbeLog, Pattern: "^Listening on:.*$"},
	} {
		got, err := parseProbe(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "http", "http://3000/", "http://:0/", "http://:70000/", "http://host:80/", "http://u@:80/", "tcp://:80/path", "tcp://:",
		"exec:", "exec:  ", "log:", "log:(", "https://:443/", "ftp://:21",
	} {
		_, err := parseProbe(text)
		require.Error(t, err, text)
	}
}

func TestParseWarmup(t *testing.T) {
	for text, want := range map[string]build.WarmupRequest{
		"/":                     {Method: "GET", Path: "/"},
		"GET /login?x=1":        {Method: "GET", Path: "/login?x=1"},
		"POST   /session":       {Method: "POST", Path: "/session"},
		"HEAD :9394/metrics":    {Method: "HEAD", Port: 9394, Path: "/metrics"},
		":9394":                 {Method: "GET", Port: 9394, Path: "/"},
		" DELETE /caches/page ": {Method: "DELETE", Path: "/caches/page"},
	} {
		got, err := parseWarmup(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "login", "get /", "GET", "GET http://x/", "GET :0/", "GET :x/", "GET /a b"} {
		_, err := parseWarmup(text)
		require.Error(t, err, text)
	}
}
