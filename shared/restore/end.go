package restore

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// early is how long after its start the end of a clone may come of what its donor found out about another processor.
const early = time.Minute

// ExplainEnd says in one sentence that the processor does not suit a clone, if SIGILL has killed the container soon after its start. It
// returns "" for any other container.
func ExplainEnd(ctx context.Context, id string, s *container.State) string {
	if s == nil || s.Running || s.ExitCode != 128+int(syscall.SIGILL) {
		return ""
	}
	started, serr := time.Parse(time.RFC3339Nano, s.StartedAt)
	finished, ferr := time.Parse(time.RFC3339Nano, s.FinishedAt)
	lived := finished.Sub(started)
	if serr != nil || ferr != nil || lived > early {
		return ""
	}
	request, err := runDir.ReadRequest(id)
	if err != nil || request.Kind != ociruntime.KindClone {
		return ""
	}
	if report, err := runDir.ReadReport(id); err != nil || report.Cold != "" {
		return ""
	}
	here, err := criu.HostInfo(ctx)
	if err != nil {
		here.CPUModel = "unknown"
	}
	return illegalInstruction(lived, request.Host, here)
}

func illegalInstruction(lived time.Duration, frozen, here criu.Host) string {
	madeOn, remedy := frozen.CPUModel, "if the two differ, build it with a baseline (--cpu, in Terraform cpu)"
	if frozen.CPUBaseline != "" {
		madeOn += ", held to " + string(frozen.CPUBaseline)
		remedy = "if the two differ, the app asks the processor itself, or was compiled for more: docs/cpu.md says how to configure it"
	}
	return fmt.Sprintf("an instruction that this processor lacks (%s), or a trap in the app's code, ended the clone %.1f s after its start (SIGILL); "+
		"the snapshot was made on %s: %s", here.CPUModel, lived.Seconds(), madeOn, remedy)
}
