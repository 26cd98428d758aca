package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// app is a web service that is measured.
type app struct {
	name  string
	image string
	port  int      // in the container
	path  string   // answers 200 when the app is ready
	args  []string // instead of the image's
	env   []string // beside the image's
	mib   int      // memory that it fills; 0 for an app that isn't ballast
	whole string   // if set, must answer 200 as well, after the clock has stopped
}

// services are those of the 2019 experiment.
var services = []app{
	{name: "redmine", image: "redmine:lab", port: 3000, path: "/login"},
	{name: "fat-app", image: "fat-app:lab", port: 3000, path: "/"},
}

// ballasts are one app in several sizes: it needs a tenth of its memory for an answer.
var ballasts = []app{ballast("64m", 64), ballast("256m", 256), ballast("1g", 1<<10), ballast("4g", 4<<10)}

// allOfBallast answers 200 when all of a ballast's memory is right.
const allOfBallast = "/all"

func ballast(size string, mib int) app {
	return app{name: "ballast-" + size, image: "ballast:lab", port: 80, path: "/", args: []string{strconv.Itoa(mib)}, mib: mib}
}

// floor is the smallest container that answers HTTP: no start of a container under Docker can be faster.
var floor = app{name: "tiny", image: "tiny:lab", port: 80, path: "/"}

func appByName(name string) (app, error) {
	var names []string
	for _, a := range slices.Concat(services, ballasts) {
		if a.name == name {
			return a, nil
		}
		names = append(names, a.name)
	}
	return app{}, fmt.Errorf("-apps %s: want some of %s", name, strings.Join(names, ","))
}

// isService tells the apps that the tables of 2019 and of the peers are about.
func isService(name string) bool {
	return slices.ContainsFunc(services, func(a app) bool { return a.name == name })
}

// variant is the app in an environment of its own, and so with a snapshot of its own.
func (a app) variant(n int) app {
	a.env = append(slices.Clone(a.env), "BENCH_VARIANT="+strconv.Itoa(n))
	return a
}

// label is on every container that the benchmark starts; its value is the name of its work directory.
const label = "io.criu-docker.bench"

// spec is the app as `docker run -p 127.0.0.1::PORT --cpuset-cpus …` asks for it.
func (a app) spec(run string, cpus int) engine.Spec {
	port := nat.Port(strconv.Itoa(a.port) + "/tcp")
	return engine.Spec{
		Config: &container.Config{Image: a.image, Cmd: a.args, Env: a.env, Labels: map[string]string{label: run}},
		Host: &container.HostConfig{
			PortBindings: nat.PortMap{port: {{HostIP: "127.0.0.1"}}},
			Resources:    container.Resources{CpusetCpus: cpuset(cpus)},
		},
	}
}

// cpuset names the first n CPUs as cgroups do.
func cpuset(n int) string {
	if n == 1 {
		return "0"
	}
	return "0-" + strconv.Itoa(n-1)
}
