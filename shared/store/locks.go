package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

const (
	lockPrefix   = "locks/"
	lockRefresh  = time.Minute     // how often a holder renews its lock
	lockStale    = 5 * time.Minute // an older lock's holder is taken for dead
	lockPutLimit = 30 * time.Second
	waitFirst    = 50 * time.Millisecond // pauses of a publication that waits for a sweep
	waitMost     = 2 * time.Second
)

// errLost says that a lock was taken away, since its holder was not heard of for too long.
var errLost = fmt.Errorf("%w: this publication was interrupted for longer than %s, and its blobs may have been swept: publish again", ErrConflict, lockStale)

// lockKind is what its holder is doing.
type lockKind string

const (
	lockPublish lockKind = "publish" // any number of them
	lockSweep   lockKind = "sweep"   // any number of them, but not beside a publication
)

// lockBody is the content of a lock object: who holds it.
type lockBody struct {
	Kind   lockKind  `json:"kind"`
	Host   string    `json:"host"`
	PID    int       `json:"pid"`
	Boot   string    `json:"boot,omitempty"`  // the kernel's boot id and
	PIDNS  string    `json:"pidns,omitempty"` // pid namespace; where both are ours, PID reports whether the holder lives
	Issued time.Time `json:"time"`
}

// locks are the lock objects of one store. A publication and a sweep exclude each other without an atomic primitive: each
// writes its own lock first and looks for the other's then, so that of two that come at once at least one sees the other.
// Ages are differences between times of the store, so that the clocks of hosts do not matter.
type locks struct {
	bucket object.Bucket

	mu   sync.Mutex
	held map[*lock]struct{}
}

func newLocks(b object.Bucket) *locks { return &locks{bucket: b, held: map[*lock]struct{}{}} }

// lock is a lock object that this process holds and renews.
type lock struct {
	locks  *locks
	key    string
	kind   lockKind
	cancel context.CancelFunc // ends the renewal
	done   chan struct{}      // closed when it has ended

	mu      sync.Mutex
	info    object.Info
	renewed time.Time // wall clock: a suspended machine counts, too
	lost    bool
	over    bool // its holder has released it
}

// publish waits until no sweep is under way and holds the lock that keeps sweeps away.
func (ls *locks) publish(ctx context.Context) (*lock, error) {
	var sweep *lockBody // that is waited for
	for pause := waitFirst; ; pause = min(2*pause, waitMost) {
		l, other, err := ls.acquire(ctx, lockPublish)
		switch {
		case l != nil:
			return l, nil
		case err == nil:
			sweep = &other
		case sweep == nil || ctx.Err() == nil:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the sweep of pid %d on %s: %w", sweep.PID, sweep.Host, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// acquire writes a lock; nil if one of another kind is there: other is one of those.
func (ls *locks) acquire(ctx context.Context, kind lockKind) (l *lock, other lockBody, err error) {
	key := lockPrefix + uuid.NewString()
	info, err := ls.put(ctx, key, kind, object.Absent)
	if err != nil {
		return nil, other, fmt.Errorf("writing a lock: %w", err)
	}
	other, found, err := ls.find(ctx, kind, info)
	if err != nil || found {
		return nil, other, errors.Join(err, ls.drop(ctx, key, info.Generation))
	}
	renewal, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l = &lock{locks: ls, key: key, kind: kind, cancel: cancel, done: make(chan struct{}), info: info, renewed: now()}
	ls.mu.Lock()
	ls.held[l] = struct{}{}
	ls.mu.Unlock()
	go l.keep(renewal)
	return l, lockBody{}, nil
}

// find looks for a live lock that excludes one of the given kind; own is the one just written, whose time is now.
func (ls *locks) find(ctx context.Context, kind lockKind, own object.Info) (lockBody, bool, error) {
	for info, err := range ls.bucket.List(ctx, lockPrefix) {
		if err != nil {
			return lockBody{}, false, fmt.Errorf("looking for other locks: %w", err)
		}
		if info.Key == own.Key {
			continue
		}
		body, err := ls.read(ctx, info.Key)
		if errors.Is(err, object.ErrNotFound) {
			continue
		}
		if err != nil {
			return lockBody{}, false, err
		}
		if own.Updated.Sub(info.Updated) > lockStale || body.holderDied() {
			if err := ls.drop(ctx, info.Key, info.Generation); err != nil && !errors.Is(err, object.ErrPrecondition) {
				return lockBody{}, false, err
			}
			continue
		}
		if body.Kind != kind {
			return body, true, nil
		}
	}
	return lockBody{}, false, nil
}

// confirm renews every lock that is held, and fails if one of them was lost.
func (ls *locks) confirm(ctx context.Context) error {
	ls.mu.Lock()
	held := make([]*lock, 0, len(ls.held))
	for l := range ls.held {
		held = append(held, l)
	}
	ls.mu.Unlock()
	for _, l := range held {
		if err := l.renew(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (ls *locks) put(ctx context.Context, key string, kind lockKind, generation string) (object.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPutLimit)
	defer cancel()
	b, err := json.Marshal(thisHolder(kind))
	if err != nil {
		return object.Info{}, err
	}
	return ls.bucket.Put(ctx, key, int64(len(b)), bytes.NewReader(b), generation)
}

func (ls *locks) read(ctx context.Context, key string) (lockBody, error) {
	rc, _, err := ls.bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return lockBody{}, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, maxRef))
	if err != nil {
		return lockBody{}, err
	}
	var body lockBody
	if json.Unmarshal(b, &body) != nil {
		body = lockBody{Host: "an unknown host"} // of a later format: keep out of its way until it is stale
	}
	return body, nil
}

// drop removes a lock even when ctx has ended. One that is gone is fine.
func (ls *locks) drop(ctx context.Context, key, generation string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockPutLimit)
	defer cancel()
	if err := ls.bucket.Delete(ctx, key, generation); err != nil && !errors.Is(err, object.ErrNotFound) {
		return fmt.Errorf("removing lock %s: %w", key, err)
	}
	return nil
}

// keep renews the lock until it is released or lost.
func (l *lock) keep(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(lockRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if errors.Is(l.renew(ctx), errLost) {
				return
			}
		}
	}
}

// renew rewrites the lock object. It is no harm if the store fails to answer: the lock is good until it is stale.
func (l *lock) renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over { // while another publication of this process was about to renew it
		return nil
	}
	if l.lost {
		return errLost
	}
	info, err := l.locks.put(ctx, l.key, l.kind, l.info.Generation)
	switch {
	case err == nil:
		l.info, l.renewed = info, now()
		return nil
	case errors.Is(err, object.ErrPrecondition), errors.Is(err, object.ErrNotFound):
		l.lost = true
		return errLost
	default:
		return fmt.Errorf("renewing lock %s: %w", l.key, err)
	}
}

// fresh makes sure that this lock can't be taken for stale for a while.
func (l *lock) fresh(ctx context.Context) error {
	l.mu.Lock()
	age := now().Sub(l.renewed)
	l.mu.Unlock()
	if age >= 0 && age < lockStale/2 {
		return nil
	}
	return l.renew(ctx)
}

// release ends the renewal and removes the lock.
func (l *lock) release() error {
	l.cancel()
	<-l.done
	l.locks.mu.Lock()
	delete(l.locks.held, l)
	l.locks.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.lost {
		return nil
	}
	return l.locks.drop(context.Background(), l.key, l.info.Generation)
}

func thisHolder(kind lockKind) lockBody {
	host, _ := os.Hostname()
	boot, pidns := machine()
	return lockBody{Kind: kind, Host: host, PID: os.Getpid(), Boot: boot, PIDNS: pidns, Issued: now().UTC()}
}

// holderDied tells for a holder in our own pid namespace whether it is gone; of others nothing is known.
func (b lockBody) holderDied() bool {
	boot, pidns := machine()
	if boot == "" || pidns == "" || b.Boot != boot || b.PIDNS != pidns {
		return false
	}
	return errors.Is(unix.Kill(b.PID, 0), unix.ESRCH)
}

// machine identifies the pid namespace that this process lives in; "" where it can't be told.
func machine() (boot, pidns string) {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	pidns, _ = os.Readlink("/proc/self/ns/pid")
	return strings.TrimSpace(string(b)), pidns
}

func now() time.Time { return time.Now().Round(0) }
