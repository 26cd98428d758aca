package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// emit shows a message in the task's events. It does not block.
func (d *Driver) emit(cfg *drivers.TaskConfig, message string, annotations map[string]string) {
	event := &drivers.TaskEvent{
		TaskID:      cfg.ID,
		TaskName:    cfg.Name,
		AllocID:     cfg.AllocID,
		Timestamp:   time.Now(),
		Message:     message,
		Annotations: annotations,
	}
	select {
	case d.events <- event:
	default:
		d.logger.Warn("too many task events at once: one was dropped", "task_id", cfg.ID, "message", message)
	}
}

// deliverEvents passes events on in order, for as long as the plugin runs: the eventer blocks while a consumer is slow.
func (d *Driver) deliverEvents() {
	for {
		select {
		case event := <-d.events:
			if err := d.eventer.EmitEvent(event); err != nil {
				return // the plugin ends
			}
		case <-d.ctx.Done():
			return
		}
	}
}

// startMessage tells which of the two starts it was, why, and where the time went:
//
//	Restored from snapshot REF in 0.9s (prepare 0.02s, resolve 0.02s, fetch 0.00s, create 0.11s, restore 0.72s)
//	Cold boot: the policy is never; started in 0.6s (prepare 0.02s, cold boot 0.51s)
func startMessage(res *restore.Result, elapsed time.Duration) string {
	var steps []string
	for _, s := range res.Steps {
		steps = append(steps, fmt.Sprintf("%s %.2fs", s.Step, s.Elapsed.Seconds()))
	}
	took := fmt.Sprintf("in %.1fs (%s)", elapsed.Seconds(), strings.Join(steps, ", "))
	if res.Start == restore.Cold {
		return "Cold boot: " + strings.TrimSuffix(res.Reason, ".") + "; started " + took
	}
	return "Restored from snapshot " + res.Ref + " " + took
}

// startAnnotations are startMessage's facts for programs.
func startAnnotations(res *restore.Result, elapsed time.Duration) map[string]string {
	a := map[string]string{
		"start":        string(res.Start),
		"container_id": res.ContainerID,
		"elapsed":      elapsed.String(),
	}
	if res.Ref != "" {
		a["snapshot"] = res.Ref
	}
	if res.Reason != "" {
		a["reason"] = res.Reason
	}
	for _, s := range res.Steps {
		a["elapsed_"+strings.ReplaceAll(s.Step, " ", "_")] = s.Elapsed.String()
	}
	return a
}
