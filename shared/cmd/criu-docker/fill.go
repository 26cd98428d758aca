package main

import (
	"context"
	"fmt"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// fill completes a request by what a snapshot was built with, where no flag says otherwise. What a snapshot does not
// hold stays the flags' to say: the values of environment variables, and the sources of mounts.
func (f *containerFlags) fill(ctx context.Context, eng *engine.Engine, spec *engine.Spec, cfg snapshot.Config) error {
	image, err := localImage(ctx, eng, cfg.Image)
	if err != nil {
		return err
	}
	c, h, run := spec.Config, spec.Host, cfg.Run
	c.Image = image
	if len(c.Cmd) == 0 && len(c.Entrypoint) == 0 && len(run.Args) > 0 {
		// The frozen command is the whole of it: [""] keeps the image's entrypoint from coming before it.
		c.Entrypoint, c.Cmd = []string{run.Args[0]}, run.Args[1:]
	}
	preset(f, "user", &c.User, run.User)
	preset(f, "workdir", &c.WorkingDir, run.WorkingDir)
	preset(f, "tty", &c.Tty, run.TTY)
	for _, port := range run.Ports {
		c.ExposedPorts[nat.Port(port)] = struct{}{}
	}
	for _, m := range run.Mounts {
		if _, given := h.Tmpfs[m.Destination]; m.Type == "tmpfs" && !given && !mounted(h, m.Destination) {
			h.Tmpfs[m.Destination] = map[bool]string{true: "ro"}[m.ReadOnly]
		}
	}
	return f.fillSecurity(h, run.Security)
}

func (f *containerFlags) fillSecurity(h *container.HostConfig, s snapshot.Security) error {
	preset(f, "privileged", &h.Privileged, s.Privileged)
	preset(f, "security-opt", &h.SecurityOpt, s.SecurityOpt)
	preset(f, "read-only", &h.ReadonlyRootfs, s.ReadonlyRootfs)
	preset(f, "group-add", &h.GroupAdd, s.GroupAdd)
	preset(f, "sysctl", &h.Sysctls, s.Sysctls)
	preset(f, "ipc", (*string)(&h.IpcMode), s.IpcMode)
	preset(f, "pid", (*string)(&h.PidMode), s.PidMode)
	preset(f, "uts", (*string)(&h.UTSMode), s.UTSMode)
	preset(f, "userns", (*string)(&h.UsernsMode), s.UsernsMode)
	preset(f, "cgroupns", (*string)(&h.CgroupnsMode), s.CgroupnsMode)
	if !s.Privileged && !f.given("cap-add") && !f.given("cap-drop") {
		h.CapDrop, h.CapAdd = []string{"ALL"}, s.Capabilities
	}
	if s.Init && !f.given("init") {
		h.Init = &s.Init
	}
	if f.given("ulimit") {
		return nil
	}
	for _, text := range s.Ulimits {
		limit, err := units.ParseUlimit(text)
		if err != nil {
			return fmt.Errorf("the snapshot's ulimit %q: %w", text, err)
		}
		h.Ulimits = append(h.Ulimits, limit)
	}
	return nil
}

// preset sets a field to the snapshot's value unless its flag is on the command line.
func preset[T any](f *containerFlags, flag string, field *T, value T) {
	if !f.given(flag) {
		*field = value
	}
}

func mounted(h *container.HostConfig, destination string) bool {
	for _, m := range h.Mounts {
		if m.Target == destination {
			return true
		}
	}
	return false
}

// localImage returns a name of the snapshot's image that this engine understands.
func localImage(ctx context.Context, eng *engine.Engine, want snapshot.Image) (string, error) {
	for _, name := range []string{want.Reference, want.ID.String()} {
		img, err := eng.Client.ImageInspect(ctx, name)
		if err == nil && img.ID == want.ID.String() {
			return name, nil
		}
		if err != nil && !engine.IsNotFound(err) {
			return "", fmt.Errorf("image %s: %w", name, err)
		}
	}
	if want.RepoDigest != "" {
		return want.RepoDigest, nil // can be pulled
	}
	return "", fmt.Errorf("the snapshot is of image %s (%s), which this engine does not have and which is in no registry: load it with docker load",
		want.Reference, want.ID)
}
