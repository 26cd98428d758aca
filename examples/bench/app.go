package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// app is a web service that is measured.
type app struct {
	name  string
	image string
	port  int    // in the container
	path  string // answers 200 when the app is ready
}

// apps are those of the 2019 experiment.
var apps = []app{
	{"redmine", "redmine:lab", 3000, "/login"},
	{"fat-app", "fat-app:lab", 3000, "/"},
}

// floor is the smallest container that answers HTTP: no start of a container under Docker can be faster.
var floor = app{"tiny", "tiny:lab", 80, "/"}

func appByName(name string) (app, error) {
	i := slices.IndexFunc(apps, func(a app) bool { return a.name == name })
	if i < 0 {
		return app{}, fmt.Errorf("-apps %s: want %s or %s", name, apps[0].name, apps[1].name)
	}
	return apps[i], nil
}

// label is on every container that the benchmark starts; its value is the name of its work directory.
const label = "io.criu-docker.bench"

// spec is the app as `docker run -p 127.0.0.1::PORT --cpuset-cpus …` asks for it.
func (a app) spec(run string, cpus int) engine.Spec {
	port := nat.Port(strconv.Itoa(a.port) + "/tcp")
	return engine.Spec{
		Config: &container.Config{Image: a.image, Labels: map[string]string{label: run}},
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
