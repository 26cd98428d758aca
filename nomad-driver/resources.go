package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
	"github.com/hashicorp/nomad/plugins/drivers"
)

const mebibyte = 1 << 20

// limitResources passes on what Nomad reserved for the task. Containers get no swap.
func limitResources(host *container.HostConfig, cfg *drivers.TaskConfig, tc *taskConfig, s settings) error {
	if err := limitPids(host, tc, s); err != nil {
		return err
	}
	if tc.OOMScoreAdj < 0 || tc.OOMScoreAdj > 1000 {
		return fmt.Errorf("oom_score_adj = %d: want 0 to 1000", tc.OOMScoreAdj)
	}
	host.OomScoreAdj = tc.OOMScoreAdj
	var err error
	if host.Ulimits, err = ulimits(tc.Ulimit.merged()); err != nil {
		return err
	}
	if err := addDevices(host, cfg, tc); err != nil {
		return err
	}

	r := cfg.Resources
	if r == nil {
		return nil
	}
	if r.NomadResources != nil {
		reserved, limit := r.NomadResources.Memory.MemoryMB*mebibyte, r.NomadResources.Memory.MemoryMB*mebibyte
		switch limitMB := r.NomadResources.Memory.MemoryMaxMB; {
		case limitMB == -1:
			limit = 0 // none
		case limitMB > 0:
			limit = limitMB * mebibyte
		}
		if tc.MemoryHardLimit > 0 {
			limit = tc.MemoryHardLimit * mebibyte
			if limit < reserved {
				return fmt.Errorf("memory_hard_limit = %d is below the memory = %d of the task's resources: raise it", tc.MemoryHardLimit, reserved/mebibyte)
			}
		}
		host.Memory, host.MemorySwap = limit, limit
		if limit != reserved {
			host.MemoryReservation = reserved
		}
	}
	if l := r.LinuxResources; l != nil {
		host.CPUShares = l.CPUShares
		host.CpusetCpus = l.CpusetCpus // set only where the task reserves cores
		if tc.CPUHardLimit {
			if tc.CPUCFSPeriod < 1000 || tc.CPUCFSPeriod > 1000000 {
				return fmt.Errorf("cpu_cfs_period = %d: want 1000 to 1000000 microseconds", tc.CPUCFSPeriod)
			}
			host.CPUPeriod = tc.CPUCFSPeriod
			host.CPUQuota = max(1000, int64(l.PercentTicks*float64(tc.CPUCFSPeriod)*float64(runtime.NumCPU())))
		}
	}
	return nil
}

// limitPids takes the task's limit, which may not exceed the plugin's.
func limitPids(host *container.HostConfig, tc *taskConfig, s settings) error {
	limit := tc.PidsLimit
	if s.PidsLimit > 0 {
		if limit > s.PidsLimit || limit < 0 {
			return fmt.Errorf("pids_limit = %d exceeds the %d that the configuration of plugin %q allows: lower it", limit, s.PidsLimit, pluginBlock)
		}
		if limit == 0 {
			limit = s.PidsLimit
		}
	}
	if limit > 0 {
		host.PidsLimit = &limit
	}
	return nil
}

func ulimits(m map[string]string) ([]*container.Ulimit, error) {
	var list []*container.Ulimit
	for name, value := range m {
		u, err := units.ParseUlimit(name + "=" + value)
		if err != nil {
			return nil, fmt.Errorf("ulimit %s = %q: want \"LIMIT\" or \"SOFT:HARD\": %w", name, value, err)
		}
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b *container.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// addDevices adds the devices of the task's configuration and those that Nomad's device plugins reserved.
func addDevices(host *container.HostConfig, cfg *drivers.TaskConfig, tc *taskConfig) error {
	for _, d := range tc.Devices {
		if d.HostPath == "" {
			return fmt.Errorf("a devices entry has no host_path: name the device on the host")
		}
		m := container.DeviceMapping{PathOnHost: d.HostPath, PathInContainer: d.ContainerPath, CgroupPermissions: d.CgroupPermissions}
		if m.PathInContainer == "" {
			m.PathInContainer = d.HostPath
		}
		if m.CgroupPermissions == "" {
			m.CgroupPermissions = "rwm"
		}
		if strings.Trim(m.CgroupPermissions, "rwm") != "" {
			return fmt.Errorf("cgroup_permissions = %q of device %q: want a combination of r, w and m", d.CgroupPermissions, d.HostPath)
		}
		host.Devices = append(host.Devices, m)
	}
	for _, d := range cfg.Devices {
		host.Devices = append(host.Devices, container.DeviceMapping{
			PathOnHost: d.HostPath, PathInContainer: d.TaskPath, CgroupPermissions: d.Permissions,
		})
	}
	return nil
}
