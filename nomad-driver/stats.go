package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/nomad/client/lib/cpustats"
	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// The fields that the engine reports; on cgroup v2 it knows less of memory.
var (
	measuredCPU      = []string{"System Mode", "User Mode", "Throttled Periods", "Throttled Time", "Percent"}
	measuredMemoryV1 = []string{"RSS", "Cache", "Mapped File", "Usage", "Max Usage"}
	measuredMemoryV2 = []string{"RSS", "Cache", "Mapped File", "Usage"}
)

// TaskStats sends the container's resource usage every interval, until ctx or the task ends.
func (d *Driver) TaskStats(ctx context.Context, taskID string, interval time.Duration) (<-chan *drivers.TaskResourceUsage, error) {
	h, ok := d.tasks.get(taskID)
	if !ok {
		return nil, drivers.ErrTaskNotFound
	}
	usage := make(chan *drivers.TaskResourceUsage)
	go func() {
		defer close(usage)
		h.sendStats(ctx, interval, usage)
	}()
	return usage, nil
}

func (h *taskHandle) sendStats(ctx context.Context, interval time.Duration, usage chan<- *drivers.TaskResourceUsage) {
	meter := newMeter(h.compute)
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			tick.Reset(interval)
		case <-h.done:
			return
		case <-ctx.Done():
			return
		}
		u, err := h.readStats(ctx, meter)
		if err != nil {
			if engine.IsNotFound(err) || ctx.Err() != nil {
				return
			}
			h.logger.Debug("no resource usage this time", "error", err)
			continue
		}
		select {
		case usage <- u:
		case <-h.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (h *taskHandle) readStats(ctx context.Context, m *meter) (*drivers.TaskResourceUsage, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := h.eng.Client.ContainerStatsOneShot(ctx, h.state.ContainerID)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return nil, fmt.Errorf("resource usage of container %.12s: %w", h.state.ContainerID, err)
	}
	return m.measure(&s, time.Now()), nil
}

// meter turns the engine's running totals into rates.
type meter struct{ total, user, system *cpustats.Tracker }

func newMeter(c cpustats.Compute) *meter {
	return &meter{total: cpustats.New(c), user: cpustats.New(c), system: cpustats.New(c)}
}

func (m *meter) measure(s *container.StatsResponse, now time.Time) *drivers.TaskResourceUsage {
	percent := m.total.Percent(float64(s.CPUStats.CPUUsage.TotalUsage))
	cpu := &drivers.CpuStats{
		Percent:          percent,
		UserMode:         m.user.Percent(float64(s.CPUStats.CPUUsage.UsageInUsermode)),
		SystemMode:       m.system.Percent(float64(s.CPUStats.CPUUsage.UsageInKernelmode)),
		TotalTicks:       m.total.TicksConsumed(percent),
		ThrottledPeriods: s.CPUStats.ThrottlingData.ThrottledPeriods,
		ThrottledTime:    s.CPUStats.ThrottlingData.ThrottledTime,
		Measured:         measuredCPU,
	}
	memory := &drivers.MemoryStats{Usage: s.MemoryStats.Usage, MaxUsage: s.MemoryStats.MaxUsage}
	if rss, v1 := s.MemoryStats.Stats["total_rss"]; v1 {
		memory.RSS = rss
		memory.Cache = s.MemoryStats.Stats["total_cache"]
		memory.MappedFile = s.MemoryStats.Stats["total_mapped_file"]
		memory.Measured = measuredMemoryV1
	} else {
		memory.RSS = s.MemoryStats.Stats["anon"]
		memory.Cache = s.MemoryStats.Stats["file"]
		memory.MappedFile = s.MemoryStats.Stats["file_mapped"]
		memory.Measured = measuredMemoryV2
	}
	return &drivers.TaskResourceUsage{
		ResourceUsage: &drivers.ResourceUsage{CpuStats: cpu, MemoryStats: memory},
		Timestamp:     now.UTC().UnixNano(),
	}
}
