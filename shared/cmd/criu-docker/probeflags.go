package main

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/criu-docker/criu-docker/shared/build"
)

// parseProbe reads a readiness probe: http://:PORT/PATH, tcp://:PORT, exec:COMMAND (run by the container's /bin/sh) or
// log:REGEX.
func parseProbe(text string) (build.Probe, error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch build.ProbeType(kind) {
	case build.ProbeExec:
		if strings.TrimSpace(rest) == "" {
			return build.Probe{}, fmt.Errorf("%q names no command", text)
		}
		return build.Probe{Type: build.ProbeExec, Command: []string{"/bin/sh", "-c", rest}}, nil
	case build.ProbeLog:
		if _, err := regexp.Compile(rest); err != nil || rest == "" {
			return build.Probe{}, fmt.Errorf("%q: want a regular expression after log: %w", text, err)
		}
		return build.Probe{Type: build.ProbeLog, Pattern: rest}, nil
	case build.ProbeHTTP, build.ProbeTCP:
		u, err := url.Parse(text)
		if err != nil {
			return build.Probe{}, err
		}
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 || u.Hostname() != "" || u.User != nil {
			return build.Probe{}, fmt.Errorf("%q: want %s://:PORT with a port of the container, and no host", text, kind)
		}
		if kind == string(build.ProbeTCP) && u.RequestURI() != "/" && u.RequestURI() != "" {
			return build.Probe{}, fmt.Errorf("%q: tcp has no path", text)
		}
		probe := build.Probe{Type: build.ProbeType(kind), Port: int(port)}
		if probe.Type == build.ProbeHTTP {
			probe.Path = u.RequestURI()
		}
		return probe, nil
	}
	return build.Probe{}, fmt.Errorf("%q: want http://:PORT/PATH, tcp://:PORT, exec:COMMAND or log:REGEX", text)
}

// parseWarmup reads a warm-up request: [METHOD ][:PORT]/PATH.
func parseWarmup(text string) (build.WarmupRequest, error) {
	method, target, ok := strings.Cut(strings.TrimSpace(text), " ")
	if !ok {
		method, target = "GET", method
	}
	target = strings.TrimSpace(target)
	request := build.WarmupRequest{Method: method}
	if strings.HasPrefix(target, ":") {
		port, path, _ := strings.Cut(target[1:], "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return request, fmt.Errorf("%q: %q is not a port", text, port)
		}
		request.Port, target = int(n), "/"+path
	}
	if !strings.HasPrefix(target, "/") || strings.ToUpper(method) != method || strings.ContainsAny(target, " \t") {
		return request, fmt.Errorf("%q: want [METHOD ][:PORT]/PATH, for example \"GET /login\"", text)
	}
	request.Path = target
	return request, nil
}
