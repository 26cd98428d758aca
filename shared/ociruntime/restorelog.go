package ociruntime

import (
	"io"
	"os"
	"path/filepath"
)

// StepFork is the step that ends when CRIU has forked the clone's first task, and is in the phase criu.PhaseForked of its
// log.
const StepFork = "fork"

// RestoreLog opens CRIU's log of a container's last restore; fs.ErrNotExist if there was none.
func (d RunDir) RestoreLog(containerID string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(d.stateDir(containerID), workName, restoreLog))
}
