package main

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/hashicorp/nomad/client/allocdir"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// mountAll mounts the task's directories (/alloc, /local, /secrets), the volumes that Nomad provides, and what the
// task's configuration asks for, as far as the operator allows it.
func mountAll(host *container.HostConfig, cfg *drivers.TaskConfig, tc *taskConfig, s settings) error {
	dir := cfg.TaskDir()
	for _, b := range []struct{ source, variable, target string }{
		{dir.SharedAllocDir, "NOMAD_ALLOC_DIR", allocdir.SharedAllocContainerPath},
		{dir.LocalDir, "NOMAD_TASK_DIR", allocdir.TaskLocalContainerPath},
		{dir.SecretsDir, "NOMAD_SECRETS_DIR", allocdir.TaskSecretsContainerPath},
	} {
		host.Binds = append(host.Binds, bind(b.source, cmp.Or(cfg.Env[b.variable], b.target), "", s))
	}
	for _, v := range tc.Volumes {
		b, err := volumeBind(v, cfg, tc, s)
		if err != nil {
			return err
		}
		host.Binds = append(host.Binds, b)
	}
	if tc.VolumeDriver != "" && !s.Volumes.Enabled {
		return notEnabled("volume_driver", tc.VolumeDriver)
	}
	for _, m := range append(tc.Mount, tc.Mounts...) {
		converted, err := convertMount(m, cfg, s)
		if err != nil {
			return err
		}
		host.Mounts = append(host.Mounts, converted)
	}
	for _, m := range cfg.Mounts {
		propagation, err := propagationOf(m.PropagationMode)
		if err != nil {
			return fmt.Errorf("volume at %q: %w", m.TaskPath, err)
		}
		host.Mounts = append(host.Mounts, mount.Mount{
			Type: mount.TypeBind, Source: m.HostPath, Target: m.TaskPath, ReadOnly: m.Readonly,
			BindOptions: &mount.BindOptions{Propagation: propagation},
		})
	}
	return nil
}

func bind(source, target, mode string, s settings) string {
	b := source + ":" + target
	if s.Volumes.SELinuxLabel != "" {
		mode = strings.Trim(mode+","+s.Volumes.SELinuxLabel, ",")
	}
	if mode != "" {
		b += ":" + mode
	}
	return b
}

// volumeBind reads "SOURCE:TARGET[:MODE]". With a volume driver the source is a volume's name.
func volumeBind(v string, cfg *drivers.TaskConfig, tc *taskConfig, s settings) (string, error) {
	parts := strings.SplitN(v, ":", 3)
	if len(parts) < 2 || parts[0] == "" || !path.IsAbs(parts[1]) {
		return "", fmt.Errorf("volumes has %q: want SOURCE:TARGET or SOURCE:TARGET:MODE, with an absolute target", v)
	}
	source, mode := parts[0], ""
	if len(parts) == 3 {
		mode = parts[2]
	}
	if tc.VolumeDriver != "" {
		if !s.Volumes.Enabled {
			return "", notEnabled("volume_driver", tc.VolumeDriver)
		}
		return bind(source, parts[1], mode, s), nil
	}
	source, err := hostPath("volumes", source, cfg, s)
	if err != nil {
		return "", err
	}
	return bind(source, parts[1], mode, s), nil
}

// hostPath resolves a source path: relative ones from the task directory. Paths outside the allocation's directory,
// also those that lead there over symbolic links, are refused unless the operator enabled volumes.
func hostPath(attr, source string, cfg *drivers.TaskConfig, s settings) (string, error) {
	abs := source
	if !filepath.IsAbs(abs) {
		abs = filepath.Join(cfg.TaskDir().Dir, source)
	}
	abs = filepath.Clean(abs)
	if s.Volumes.Enabled {
		return abs, nil
	}
	rel, err := filepath.Rel(cfg.AllocDir, abs)
	if err != nil || !filepath.IsLocal(rel) {
		return "", notEnabled(attr, source)
	}
	// The task owns these directories and may have put links there; a link is followed within them only.
	resolved, err := securejoin.SecureJoin(cfg.AllocDir, rel)
	if err != nil {
		return "", fmt.Errorf("%s has %q: %w", attr, source, err)
	}
	return resolved, nil
}

func notEnabled(attr, value string) error {
	return fmt.Errorf("%s has %q, which is outside the allocation's directory, and this client does not allow that: use a path "+
		"relative to the task directory, or set volumes { enabled = true } in the configuration of plugin %q", attr, value, pluginBlock)
}

// convertMount turns a mount block into the engine's terms.
func convertMount(m mountCfg, cfg *drivers.TaskConfig, s settings) (mount.Mount, error) {
	out := mount.Mount{Type: mount.Type(m.Type), Target: m.Target, Source: m.Source, ReadOnly: m.ReadOnly}
	if !path.IsAbs(m.Target) {
		return out, fmt.Errorf("mount has the target %q: want an absolute path", m.Target)
	}
	switch out.Type {
	case mount.TypeBind:
		source, err := hostPath("mount", m.Source, cfg, s)
		if err != nil {
			return out, err
		}
		out.Source = source
		if m.BindOptions.Propagation != "" {
			out.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(m.BindOptions.Propagation)}
		}
	case mount.TypeTmpfs:
		if m.Source != "" {
			return out, fmt.Errorf("mount at %q of type \"tmpfs\" has the source %q: leave it out", m.Target, m.Source)
		}
		out.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: m.TmpfsOptions.SizeBytes, Mode: os.FileMode(m.TmpfsOptions.Mode)}
	case mount.TypeVolume:
		o := m.VolumeOptions
		out.VolumeOptions = &mount.VolumeOptions{NoCopy: o.NoCopy, Labels: o.Labels.merged()}
		if o.DriverConfig.Name != "" || len(o.DriverConfig.Options) > 0 {
			if !s.Volumes.Enabled { // a driver's options can name any path on the host
				return out, notEnabled("volume_options.driver_config", o.DriverConfig.Name)
			}
			out.VolumeOptions.DriverConfig = &mount.Driver{Name: o.DriverConfig.Name, Options: o.DriverConfig.Options.merged()}
		}
	default:
		return out, fmt.Errorf("mount at %q has the type %q: want \"bind\", \"volume\" or \"tmpfs\"", m.Target, m.Type)
	}
	return out, nil
}

// propagationOf translates the propagation_mode of a volume_mount block.
func propagationOf(mode string) (mount.Propagation, error) {
	switch mode {
	case "", "private":
		return mount.PropagationRPrivate, nil
	case "host-to-task":
		return mount.PropagationRSlave, nil
	case "bidirectional":
		return mount.PropagationRShared, nil
	}
	return "", fmt.Errorf("propagation_mode = %q: want \"private\", \"host-to-task\" or \"bidirectional\"", mode)
}
