package engine

import (
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/oci/caps"
	"github.com/opencontainers/go-digest"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// Effective returns the run configuration that the engine would start spec's process with: the request completed by the
// image's defaults, in the way `docker run` completes it.
func Effective(spec Spec, img image.InspectResponse) (snapshot.RunConfig, error) {
	id, err := digest.Parse(img.ID)
	if err != nil {
		return snapshot.RunConfig{}, fmt.Errorf("image %q has the id %q: %w", spec.Config.Image, img.ID, err)
	}
	c := spec.Config
	run := snapshot.RunConfig{
		User:       c.User,
		WorkingDir: c.WorkingDir,
		TTY:        c.Tty,
		Stdin:      c.OpenStdin,
		Domainname: c.Domainname,
		Env:        map[string]string{},
	}

	entrypoint, cmd := []string(c.Entrypoint), []string(c.Cmd)
	var imageEnv []string
	if img.Config != nil {
		imageEnv = img.Config.Env
		if run.User == "" {
			run.User = img.Config.User
		}
		if run.WorkingDir == "" {
			run.WorkingDir = img.Config.WorkingDir
		}
		// An entrypoint in the request hides the image's command as well; [""] asks for none.
		if len(entrypoint) == 0 {
			entrypoint = img.Config.Entrypoint
			if len(cmd) == 0 {
				cmd = img.Config.Cmd
			}
		}
		for port := range img.Config.ExposedPorts {
			run.Ports = append(run.Ports, port)
		}
		for dest := range img.Config.Volumes {
			run.Mounts = append(run.Mounts, snapshot.Mount{Destination: path.Clean(dest), Type: "bind"})
		}
	}
	run.User, run.WorkingDir = normalUser(run.User), normalDir(run.WorkingDir)
	if len(entrypoint) == 1 && entrypoint[0] == "" {
		entrypoint = nil
	}
	run.Args = append(slices.Clone(entrypoint), cmd...)

	for _, kv := range slices.Concat(imageEnv, c.Env) {
		name, value, ok := strings.Cut(kv, "=")
		if !ok { // `docker run -e NAME` without a value removes the variable
			delete(run.Env, name)
			continue
		}
		if !snapshot.PerAllocation(name) {
			run.Env[name] = snapshot.HashEnv(id, name, value)
		}
	}
	for port := range c.ExposedPorts {
		run.Ports = append(run.Ports, string(port))
	}
	slices.Sort(run.Ports)
	run.Ports = slices.Compact(run.Ports)

	mounts, err := mounts(spec)
	if err != nil {
		return snapshot.RunConfig{}, err
	}
	run.Mounts = mergeMounts(run.Mounts, mounts)
	run.Security, err = security(spec)
	return run, err
}

// normalUser returns one spelling of a user; "" for root, as in an image that names none. A group is kept: the engine gives a
// user without one its further groups.
func normalUser(user string) string {
	const root, superuser = "root", "0"
	name, group, _ := strings.Cut(user, ":")
	if name == "" || name == root {
		name = superuser
	}
	if group == root {
		group = superuser
	}
	switch {
	case group != "":
		return name + ":" + group
	case name == superuser:
		return ""
	}
	return name
}

// normalDir returns one spelling of a working directory; "" for the root directory.
func normalDir(dir string) string {
	if dir = path.Clean("/" + dir); dir == "/" {
		return ""
	}
	return dir
}

// mounts lists what the request mounts, binds and volumes alike.
func mounts(spec Spec) ([]snapshot.Mount, error) {
	var list []snapshot.Mount
	for dest := range spec.Config.Volumes {
		list = append(list, snapshot.Mount{Destination: path.Clean(dest), Type: "bind"})
	}
	h := spec.Host
	if h == nil {
		return list, nil
	}
	for _, bind := range h.Binds {
		parts := strings.Split(bind, ":")
		m := snapshot.Mount{Type: "bind"}
		switch len(parts) {
		case 1:
			m.Destination = parts[0]
		case 2:
			m.Destination = parts[1]
		case 3:
			m.Destination = parts[1]
			m.ReadOnly = slices.Contains(strings.Split(parts[2], ","), "ro")
		default:
			return nil, fmt.Errorf("bind %q: want SOURCE:DESTINATION[:OPTIONS]", bind)
		}
		m.Destination = path.Clean(m.Destination)
		list = append(list, m)
	}
	for _, m := range h.Mounts {
		switch m.Type {
		case mount.TypeBind, mount.TypeVolume:
			list = append(list, snapshot.Mount{Destination: path.Clean(m.Target), Type: "bind", ReadOnly: m.ReadOnly})
		case mount.TypeTmpfs:
			list = append(list, snapshot.Mount{Destination: path.Clean(m.Target), Type: "tmpfs", ReadOnly: m.ReadOnly, Directory: tmpfsDirectory(m.TmpfsOptions)})
		default:
			return nil, fmt.Errorf("mount at %q has type %q: a snapshot can hold bind, volume and tmpfs mounts", m.Target, m.Type)
		}
	}
	for dest, options := range h.Tmpfs {
		list = append(list, snapshot.Mount{Destination: path.Clean(dest), Type: "tmpfs", Directory: directory(strings.Split(options, ","))})
	}
	switch {
	case len(h.VolumesFrom) > 0:
		return nil, fmt.Errorf("volumes_from = %q: the engine finds out what it mounts only when the container starts; name the volumes instead", h.VolumesFrom)
	case len(h.Links) > 0:
		return nil, fmt.Errorf("links = %q: the engine makes variables of them, which a snapshot can't have; use a network with names instead", h.Links)
	}
	return list, nil
}

// tmpfsDirectory is directory for options in the engine's newer form.
func tmpfsDirectory(o *mount.TmpfsOptions) string {
	if o == nil {
		return ""
	}
	var options []string
	if o.Mode != 0 {
		options = append(options, fmt.Sprintf("mode=%o", o.Mode))
	}
	for _, option := range o.Options {
		options = append(options, strings.Join(option, "="))
	}
	return directory(options)
}

// directory returns those options of a tmpfs that say how its own directory looks.
func directory(options []string) string {
	var list []string
	for _, o := range options {
		switch key, value, _ := strings.Cut(o, "="); key {
		case "mode":
			list = append(list, key+"="+strings.TrimLeft(value, "0"))
		case "uid", "gid":
			list = append(list, o)
		}
	}
	return strings.Join(sorted(list), ",")
}

// mergeMounts lets a mount of the request replace the image's volume at the same place, and sorts.
func mergeMounts(fromImage, fromRequest []snapshot.Mount) []snapshot.Mount {
	byDest := map[string]snapshot.Mount{}
	for _, m := range slices.Concat(fromImage, fromRequest) {
		byDest[m.Destination] = m
	}
	var merged []snapshot.Mount
	for _, m := range byDest {
		merged = append(merged, m)
	}
	sort.Slice(merged, func(i, j int) bool { return merged[i].Destination < merged[j].Destination })
	return merged
}

func security(spec Spec) (snapshot.Security, error) {
	h := spec.Host
	if h == nil {
		h = &container.HostConfig{}
	}
	// The engine's own arithmetic: however additions and removals are spelt, what counts is the resulting set.
	capAdd, err := caps.NormalizeLegacyCapabilities(h.CapAdd)
	if err != nil {
		return snapshot.Security{}, fmt.Errorf("cap_add = %q: %w", h.CapAdd, err)
	}
	capDrop, err := caps.NormalizeLegacyCapabilities(h.CapDrop)
	if err != nil {
		return snapshot.Security{}, fmt.Errorf("cap_drop = %q: %w", h.CapDrop, err)
	}
	capabilities, err := caps.TweakCapabilities(caps.DefaultCapabilities(), capAdd, capDrop, h.Privileged)
	if err != nil {
		return snapshot.Security{}, fmt.Errorf("cap_add = %q, cap_drop = %q: %w", h.CapAdd, h.CapDrop, err)
	}
	s := snapshot.Security{
		Capabilities:   sorted(capabilities),
		Privileged:     h.Privileged,
		SecurityOpt:    sorted(h.SecurityOpt),
		ReadonlyRootfs: h.ReadonlyRootfs,
		IpcMode:        namespaceMode(string(h.IpcMode)),
		PidMode:        string(h.PidMode),
		UTSMode:        string(h.UTSMode),
		UsernsMode:     string(h.UsernsMode),
		CgroupnsMode:   string(h.CgroupnsMode),
		GroupAdd:       sorted(h.GroupAdd),
		Sysctls:        h.Sysctls,
		Init:           h.Init != nil && *h.Init,
		NoNetwork:      spec.Config.NetworkDisabled,
		Devices:        devices(h.Resources),
		MaskedPaths:    paths(h.MaskedPaths),
		ReadonlyPaths:  paths(h.ReadonlyPaths),
	}
	if len(s.Sysctls) == 0 {
		s.Sysctls = nil
	}
	for _, u := range h.Ulimits {
		s.Ulimits = append(s.Ulimits, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	slices.Sort(s.Ulimits)
	return s, nil
}

// devices lists the device nodes that a container gets, which are on a tmpfs that a clone has from its donor, and what brings such
// nodes with it.
func devices(r container.Resources) []string {
	var list []string
	for _, d := range r.Devices {
		list = append(list, fmt.Sprintf("%s=%s:%s", d.PathInContainer, d.PathOnHost, d.CgroupPermissions))
	}
	for _, d := range r.DeviceRequests {
		list = append(list, fmt.Sprintf("%s: %d of %q with %q and %q", d.Driver, d.Count, d.DeviceIDs, d.Capabilities, d.Options))
	}
	return sorted(list)
}

// paths keeps the difference between none and the engine's default.
func paths(list []string) *[]string {
	if list == nil {
		return nil
	}
	p := append([]string{}, sorted(list)...)
	return &p
}

// namespaceMode drops the engine's default, so that asking for it and not asking are the same.
func namespaceMode(mode string) string {
	if mode == "private" {
		return ""
	}
	return mode
}

// sorted makes equal what means the same; none is nil.
func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) == 0 {
		return nil
	}
	return list
}

// Ref is the name under which a store keeps the snapshot for an image that is started so.
func Ref(img image.InspectResponse, run snapshot.RunConfig) snapshot.Ref {
	return snapshot.Ref{Image: digest.Digest(img.ID), Fingerprint: run.Fingerprint(), Arch: img.Architecture}
}
