package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// many starts the smallest app many times at once, cold and from a snapshot in turn, and prints when half of the containers and the
// last one have answered, and how that compares.
func (b *bench) many(ctx context.Context, w io.Writer) (err error) {
	if b.warm, err = cache.Open(filepath.Join(b.work, "cache"), 0); err != nil {
		return err
	}
	result, _, err := b.publish(ctx, floor, runtime.NumCPU())
	if err != nil {
		return err
	}
	if _, err := b.warmUp(ctx, result); err != nil {
		return err
	}
	for round := range b.opts.rounds {
		cold, err := b.startMany(ctx, way{})
		if err != nil {
			return fmt.Errorf("cold: %w", err)
		}
		hot, err := b.startMany(ctx, way{b.warm, restore.MemoryAuto})
		if err != nil {
			return fmt.Errorf("hot: %w", err)
		}
		fmt.Fprintf(w, "round %d: %d at once: cold: half after %.1f s, all after %.1f s, %.1f s of processors; "+
			"hot: half after %.1f s, all after %.1f s, %.1f s of processors; hot ÷ cold: half %.2f, all %.2f, processors %.2f\n",
			round+1, b.opts.many, cold.half.Seconds(), cold.all.Seconds(), cold.busy, hot.half.Seconds(), hot.all.Seconds(), hot.busy,
			hot.half.Seconds()/cold.half.Seconds(), hot.all.Seconds()/cold.all.Seconds(), hot.busy/cold.busy)
	}
	return nil
}

// crowdTimes are the times after which half of a crowd's containers have answered, and all of them, and how long the processors of
// the machine were busy meanwhile, in seconds.
type crowdTimes struct {
	half, all time.Duration
	busy      float64
}

func (b *bench) startMany(ctx context.Context, w way) (crowdTimes, error) {
	var mu sync.Mutex
	var ids []string
	var answers []time.Duration
	launches, lctx := errgroup.WithContext(ctx)
	before, err := busy()
	if err != nil {
		return crowdTimes{}, err
	}
	begin := time.Now()
	for range b.opts.many {
		launches.Go(func() error {
			c, err := b.launch(lctx, floor, runtime.NumCPU(), w)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			ids, answers = append(ids, c.id), append(answers, time.Since(begin))
			return nil
		})
	}
	err = launches.Wait()
	after, berr := busy()
	if err == nil {
		err = berr
	}
	if rerr := b.remove(ctx, w, ids...); err == nil {
		err = rerr
	}
	if err != nil {
		return crowdTimes{}, err
	}
	times := timesOf(answers)
	times.busy = after - before
	return times, nil
}

func timesOf(answers []time.Duration) crowdTimes {
	answers = slices.Sorted(slices.Values(answers))
	return crowdTimes{half: answers[(len(answers)-1)/2], all: answers[len(answers)-1]}
}

// busy is how long the machine's processors have been busy since it was booted, in seconds.
func busy() (float64, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, err
	}
	stat, err := fs.Stat()
	if err != nil {
		return 0, fmt.Errorf("time of the processors: %w", err)
	}
	all := stat.CPUTotal
	return all.User + all.Nice + all.System + all.IRQ + all.SoftIRQ, nil
}
