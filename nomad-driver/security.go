package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/nomad/drivers/shared/capabilities"

	"github.com/criu-docker/criu-docker/nomad-driver/foreign"
)

// secure sets the container's privileges, within what the operator allows.
func secure(host *container.HostConfig, tc *taskConfig, s settings) error {
	if !s.AllowPrivileged {
		for _, ask := range []struct {
			attr, value string
			asked       bool
		}{
			{"privileged", "true", tc.Privileged},
			{"pid_mode", tc.PidMode, tc.PidMode != ""},
			{"uts_mode", tc.UTSMode, tc.UTSMode != ""},
			{"ipc_mode", tc.IPCMode, tc.IPCMode != "" && tc.IPCMode != "none" && tc.IPCMode != "private"},
		} {
			if ask.asked {
				return fmt.Errorf("%s = %s is not allowed on this client: leave it out, or set allow_privileged in the configuration of plugin %q",
					ask.attr, ask.value, pluginBlock)
			}
		}
	}
	host.Privileged = tc.Privileged
	host.PidMode = container.PidMode(tc.PidMode)
	host.UTSMode = container.UTSMode(tc.UTSMode)
	host.IpcMode = container.IpcMode(tc.IPCMode)
	host.UsernsMode = container.UsernsMode(tc.UsernsMode)
	host.CgroupnsMode = container.CgroupnsMode(tc.CgroupnsMode)
	host.GroupAdd = tc.GroupAdd
	host.Sysctls = tc.Sysctl.merged()

	var err error
	if host.SecurityOpt, err = securityOpts(tc.SecurityOpt); err != nil {
		return err
	}
	if !tc.Privileged { // who may be privileged has every capability
		host.CapAdd, host.CapDrop, err = capabilityDelta(s.AllowCaps, tc.CapAdd, tc.CapDrop)
	}
	return err
}

// capabilityDelta says how the container's capabilities differ from the engine's defaults: what the task adds, what it
// drops, and what the operator does not allow though the engine would grant it (by default NET_RAW). The lists are
// as short as they can be, since a snapshot fits only where they are equal.
func capabilityDelta(allowed, add, drop []string) (added, dropped []string, err error) {
	defaults := capabilities.DockerDefaults(types.Version{})
	allow := capabilities.New(allowed)

	wanted := allow.Intersect(defaults)
	wanted.Remove(drop)
	wanted = wanted.Union(capabilities.New(add))
	if refused := allow.Difference(wanted); !refused.Empty() {
		return nil, nil, fmt.Errorf("cap_add asks for %s, which this client does not allow: leave it out, or add it to allow_caps in the configuration of plugin %q",
			refused, pluginBlock)
	}
	return upper(defaults.Difference(wanted)), upper(wanted.Difference(defaults)), nil
}

func upper(s *capabilities.Set) []string {
	var names []string
	for _, c := range s.Slice(false) {
		names = append(names, strings.ToUpper(c))
	}
	return names
}

// seccompLimit is far more than a seccomp profile has.
const seccompLimit = 1 << 20

// securityOpts passes options on; a seccomp profile that is given as a file is read here, as the docker command line does.
func securityOpts(opts []string) ([]string, error) {
	var out []string
	for _, opt := range opts {
		key, value, _ := strings.Cut(opt, "=")
		if key != "seccomp" || value == "unconfined" || value == "builtin" || strings.HasPrefix(strings.TrimSpace(value), "{") {
			out = append(out, opt)
			continue
		}
		profile, err := foreign.ReadFile(value, seccompLimit)
		if err != nil {
			return nil, fmt.Errorf("security_opt has %q: want \"unconfined\", \"builtin\", a JSON profile, or the file of one: %w", opt, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, profile); err != nil {
			return nil, fmt.Errorf("security_opt has %q: the file is not JSON: %w", opt, err)
		}
		out = append(out, "seccomp="+compact.String())
	}
	return out, nil
}
