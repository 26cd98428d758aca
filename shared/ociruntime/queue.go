package ociruntime

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/criu-docker/criu-docker/shared/internal/turn"
)

// Queues of this machine.
const (
	RestoreQueue = "restores"
	BuildQueue   = "builds"
)

// Restores is how many restores go on at a time. One waits for the kernel and the disk now and then, so that a few more than there
// are processors are done sooner; with many more, all of them are done late.
func Restores() int { return runtime.NumCPU() + 2 }

// Builds is how many builds go on at a time: donors that boot, are frozen and packed. More of them would not be done sooner, and run
// out of the time that they have to become ready.
func Builds() int { return runtime.NumCPU() }

// awaitTurn waits for the turn of a clone that its engine starts again, however long that takes: after a reboot, an engine starts
// all of them at once.
func awaitTurn() (*turn.Turn, error) {
	return RunDir(DefaultRunDir).AwaitTurn(context.Background(), RestoreQueue, Restores())
}

// AwaitTurn returns when it is the caller's turn at a queue that has so many places; see turn.Wait.
func (d RunDir) AwaitTurn(ctx context.Context, queue string, places int) (*turn.Turn, error) {
	if err := d.makeSub(queueDir); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return turn.Wait(ctx, d.QueueFile(queue), places)
}

// QueueFile is the file that a queue consists of.
func (d RunDir) QueueFile(queue string) string { return filepath.Join(string(d), queueDir, queue) }
