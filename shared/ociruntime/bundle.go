package ociruntime

import (
	"fmt"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// criuConfigAnnotation names a container's own CRIU configuration file to runc.
const criuConfigAnnotation = "org.criu.config"

// bundle is a container's OCI bundle: the directory that the engine hands to the runtime.
type bundle struct {
	dir  string
	spec specs.Spec
}

func loadBundle(dir string) (*bundle, error) {
	b := &bundle{dir: dir}
	if err := readJSON(filepath.Join(dir, "config.json"), &b.spec); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if b.spec.Linux == nil || b.spec.Root == nil {
		return nil, fmt.Errorf("bundle %s: config.json has no linux or no root section", dir)
	}
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.UserNamespace {
			return nil, fmt.Errorf("bundle %s: the container has a user namespace, which CRIU cannot restore into: "+
				"start it with --userns=host, or dockerd without userns-remap", dir)
		}
	}
	return b, nil
}

func (b *bundle) save() error {
	if err := writeJSON(filepath.Join(b.dir, "config.json"), b.spec); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return nil
}

// rootfs is the absolute path of the mounted root file system.
func (b *bundle) rootfs() string {
	if filepath.IsAbs(b.spec.Root.Path) {
		return b.spec.Root.Path
	}
	return filepath.Join(b.dir, b.spec.Root.Path)
}

func (b *bundle) annotate(key, value string) {
	if b.spec.Annotations == nil {
		b.spec.Annotations = map[string]string{}
	}
	b.spec.Annotations[key] = value
}

// resolveSources replaces symbolic links in the sources of bind mounts by what they lead to: runc follows them, but CRIU
// would mount the link itself (Docker's --init mounts /usr/bin/docker-init, which Debian makes a link).
func (b *bundle) resolveSources() error {
	for i, m := range b.spec.Mounts {
		if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			continue
		}
		if !filepath.IsAbs(m.Source) {
			continue // relative to the bundle, where no engine puts links
		}
		source, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			return fmt.Errorf("mount at %s: %w", m.Destination, err)
		}
		b.spec.Mounts[i].Source = source
	}
	return nil
}

// network returns the network namespace that the engine asked for: its path ("" means a new one), and whether there is
// one at all (none means the host's).
func (b *bundle) network() (path string, own bool) {
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			return ns.Path, true
		}
	}
	return "", false
}

func (b *bundle) setNetwork(path string) {
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.NetworkNamespace {
			b.spec.Linux.Namespaces[i].Path = path
			return
		}
	}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path})
}
