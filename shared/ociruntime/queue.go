package ociruntime

import (
	"context"
	"runtime"

	"github.com/criu-docker/criu-docker/shared/internal/turn"
)

// Queue is where the restores of this machine wait for their turn.
const Queue = DefaultRunDir + "/queue/restores"

// Restores is how many restores go on at a time. One waits for the kernel and the disk now and then, so that a few more than there
// are processors are done sooner; with many more, all of them are done late.
func Restores() int { return runtime.NumCPU() + 2 }

// awaitTurn waits for the turn of a clone that its engine starts again, however long that takes: after a reboot, an engine starts
// all of them at once.
func awaitTurn() (*turn.Turn, error) {
	return turn.Wait(context.Background(), Queue, Restores())
}
