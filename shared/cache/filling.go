package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// Filling is the memory of a snapshot that is still being fetched. Any number of processes may fill the same one: a frame is
// fetched by one of them, checked, written, and only then marked as present, in a file that they share. A process that is
// killed meanwhile leaves the rest to the others, or to the next one.
type Filling struct {
	dir     string
	source  *source
	frames  []snapshot.Frame
	places  map[string][]place // by page image, by offset
	file    *os.File
	mapped  []byte
	present []uint32     // by frame, shared between processes
	busy    []sync.Mutex // by frame
	hasty   bool         // somebody waits for all of it: a disk that is full is not waited for
}

// place is where a part of a page image comes from.
type place struct {
	offset, length int64
	frame          int
}

// stateFile marks an entry that is not whole, and stays in the directories of its clones (see ociruntime.FillingWhole): the id of the boot in which it was begun (what was not made durable before
// the next one is worth nothing), padded to stateHeader bytes, and then a word for each frame, 1 if it is present.
const (
	stateFile   = "filling"
	stateHeader = 64
	wholeState  = "whole" // in place of the id when everything is there
)

// How many frames are fetched at a time: those that the app needs first, and the others.
const (
	firstInFlight = 4
	restInFlight  = 2
)

// Priorities (nice(1)) with which frames are fetched that nothing waits for yet: those that the app needs first, and the others.
const (
	firstNice = 5
	restNice  = 10
)

// fetchPatience bounds how long a store that fails is asked again for one frame.
const fetchPatience = time.Minute

// corruptAttempts is how often a frame is fetched that is not what its digest says.
const corruptAttempts = 3

// frameWait bounds how long a frame is left to another process that fetches it. Fetching it twice does no harm.
const frameWait = 2 * time.Second

// createState makes the state of an entry in which no frame is present.
func createState(dir string, frames int) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	b := make([]byte, stateHeader+4*frames)
	copy(b, boot)
	return os.WriteFile(filepath.Join(dir, stateFile), b, 0o600)
}

// filling opens the state of an entry; the caller holds its lock.
func (c *Cache) filling(name string, src *source) (_ *Filling, err error) {
	m, err := c.manifest(name)
	if err != nil {
		return nil, err
	}
	f := &Filling{dir: c.path(snapshotsDir, name), source: src, places: map[string][]place{}}
	if f.frames, err = snapshot.Frames(m); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	for i, frame := range f.frames {
		for _, e := range frame.Extents {
			f.places[frame.File] = append(f.places[frame.File], place{e.Offset, e.Length, i})
		}
	}
	for _, list := range f.places {
		slices.SortFunc(list, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
	}
	f.busy = make([]sync.Mutex, len(f.frames))
	if f.file, err = os.OpenFile(filepath.Join(f.dir, stateFile), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	size := stateHeader + 4*len(f.frames)
	if fi, err := f.file.Stat(); err != nil {
		f.file.Close()
		return nil, err
	} else if fi.Size() != int64(size) {
		f.file.Close()
		return nil, fmt.Errorf("%w: %s has %d bytes, not %d", errDamaged, f.file.Name(), fi.Size(), size)
	}
	if f.mapped, err = unix.Mmap(int(f.file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		f.file.Close()
		return nil, fmt.Errorf("%s: mmap: %w", f.file.Name(), err)
	}
	f.present = unsafe.Slice((*uint32)(unsafe.Pointer(&f.mapped[stateHeader])), len(f.frames)) //nolint:gosec // aligned
	return f, nil
}

// source is the store that a filling gets its frames from, opened when the first is needed.
type source struct {
	open func(context.Context) (store.Store, error)

	mu     sync.Mutex
	opened store.Store
}

func (s *source) get(ctx context.Context) (store.Store, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == nil {
		opened, err := s.open(ctx)
		if err != nil {
			return nil, err
		}
		s.opened = opened
	}
	return s.opened, nil
}

// close closes what get has opened; a store that was there before belongs to its owner.
func (s *source) close() {
	if s.opened != nil && s.open != nil {
		_ = s.opened.Close() // nothing was written
	}
}

func (f *Filling) close() {
	f.source.close()
	_ = unix.Munmap(f.mapped)
	f.file.Close()
}

// Has reports whether a range is in its page image.
func (f *Filling) Has(r pages.Range) bool {
	for _, i := range f.framesOf(r) {
		if !f.has(i) {
			return false
		}
	}
	return true
}

// Ensure returns when a range is in its page image. A store that fails for a while is asked again; what remains are
// snapshot.ErrCorrupt, and the store's own errors.
func (f *Filling) Ensure(ctx context.Context, r pages.Range) error {
	for _, i := range f.framesOf(r) {
		if err := f.fetch(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// ensureEager returns when everything is there that CRIU itself reads.
func (f *Filling) ensureEager(ctx context.Context) error {
	eager, err := criu.EagerPages(filepath.Join(f.dir, snapshot.CheckpointName))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for _, i := range f.framesOfAll(eager) {
		g.Go(func() error { return f.fetch(ctx, i) })
	}
	return g.Wait()
}

// framesOfAll returns the frames that hold any of some ranges.
func (f *Filling) framesOfAll(list []criu.PageRange) []int {
	needed := make([]bool, len(f.frames))
	for _, r := range list {
		for _, i := range f.framesOf(pages.Range{File: r.File, Offset: r.Offset, Length: r.Length}) {
			needed[i] = true
		}
	}
	var frames []int
	for i, yes := range needed {
		if yes {
			frames = append(frames, i)
		}
	}
	return frames
}

// FetchFirst fetches what the app needs first, at a low priority: the restore itself needs the processors more.
func (f *Filling) FetchFirst(ctx context.Context) error {
	return f.fetchInOrder(ctx, firstInFlight, firstNice, func(i int) bool { return f.frames[i].First })
}

// FetchAll fetches everything, and makes the snapshot whole.
func (f *Filling) FetchAll(ctx context.Context) error {
	if err := f.fetchInOrder(ctx, readsInFlight, 0, func(int) bool { return true }); err != nil {
		return err
	}
	return f.finish()
}

// FetchQuietly is FetchAll for a machine that has better things to do.
func (f *Filling) FetchQuietly(ctx context.Context) error {
	if err := f.FetchFirst(ctx); err != nil {
		return err
	}
	if err := f.fetchInOrder(ctx, restInFlight, restNice, func(int) bool { return true }); err != nil {
		return err
	}
	return f.finish()
}

// readsInFlight is how many frames are fetched at a time when somebody waits for all of them.
const readsInFlight = 8

// fetchInOrder fetches the frames that are wanted, some at a time. What is needed first comes first among them.
func (f *Filling) fetchInOrder(ctx context.Context, workers, nice int, wanted func(i int) bool) error {
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			if nice > 0 {
				runtime.LockOSThread() // never unlocked, so that the thread ends with its priority
				if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice); err != nil {
					return err
				}
			}
			for {
				i := int(next.Add(1)) - 1
				if i >= len(f.frames) {
					return nil
				}
				if !wanted(i) {
					continue
				}
				if err := f.fetch(gctx, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// finish makes the snapshot whole, on disk. Several processes may come to this at the same time; the first one does it, since another one
// would meet files that are being replaced. The lock is one on the file, and those on its frames are not in its way.
func (f *Filling) finish() error {
	lock := int(f.file.Fd())
	for {
		err := unix.Flock(lock, unix.LOCK_EX)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("locking %s: %w", f.file.Name(), err)
		}
	}
	defer func() { _ = unix.Flock(lock, unix.LOCK_UN) }()
	if _, err := os.Lstat(filepath.Join(f.dir, wholeFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := pages.WriteSums(filepath.Join(f.dir, snapshot.CheckpointName)); err != nil {
		return err
	}
	if err := noteSizes(f.dir); err != nil {
		return err
	}
	if err := syncTree(f.dir); err != nil {
		return err
	}
	if err := markWhole(f.dir); err != nil {
		return err
	}
	// The clones have links to it, and know by it that they can be restored again after a reboot.
	if _, err := f.file.WriteAt([]byte(wholeState), 0); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(f.dir, stateFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// framesOf returns the frames that hold a range.
func (f *Filling) framesOf(r pages.Range) []int {
	list := f.places[r.File]
	i, _ := slices.BinarySearchFunc(list, r.Offset, func(p place, offset int64) int { return cmp.Compare(p.offset+p.length, offset+1) })
	var frames []int
	for ; i < len(list) && list[i].offset < r.Offset+r.Length; i++ {
		if !slices.Contains(frames, list[i].frame) {
			frames = append(frames, list[i].frame)
		}
	}
	return frames
}

func (f *Filling) has(i int) bool { return atomic.LoadUint32(&f.present[i]) == 1 }

// fetch brings one frame unless it is there.
func (f *Filling) fetch(ctx context.Context, i int) error {
	if f.has(i) {
		return nil
	}
	f.busy[i].Lock()
	defer f.busy[i].Unlock()
	unlock, err := f.lockFrame(ctx, i)
	if err != nil {
		return err
	}
	defer unlock()
	if f.has(i) {
		return nil
	}
	corrupt := 0
	err = backoff.Retry(func() error {
		err := f.transfer(ctx, i)
		if errors.Is(err, snapshot.ErrCorrupt) {
			corrupt++ // it may be the transfer that is
		}
		full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
		if corrupt == corruptAttempts || errors.Is(err, store.ErrNotFound) || full && f.hasty || ctx.Err() != nil {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(backoff.NewExponentialBackOff(backoff.WithMaxElapsedTime(fetchPatience)), ctx))
	if err != nil {
		return fmt.Errorf("fetching memory: layer %s: %w", f.frames[i].Layer.Digest, err)
	}
	atomic.StoreUint32(&f.present[i], 1)
	return nil
}

func (f *Filling) transfer(ctx context.Context, i int) error {
	s, err := f.source.get(ctx)
	if err != nil {
		return err
	}
	b, release, err := snapshot.ReadFrame(ctx, s, f.frames[i])
	defer release()
	if err != nil {
		return err
	}
	return snapshot.WriteFrame(filepath.Join(f.dir, snapshot.CheckpointName), f.frames[i], b)
}

// lockFrame keeps other processes from fetching the same frame, for as long as that makes sense.
func (f *Filling) lockFrame(ctx context.Context, i int) (unlock func(), err error) {
	lock := func(kind int16) error {
		return unix.FcntlFlock(f.file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: int64(i), Len: 1})
	}
	const pause = time.Millisecond
	for deadline := time.Now().Add(frameWait); ; {
		err := lock(unix.F_WRLCK)
		switch {
		case err == nil:
			return func() { _ = lock(unix.F_UNLCK) }, nil // it ends with the file at the latest
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("%s: lock: %w", f.file.Name(), err)
		case f.has(i), time.Now().After(deadline):
			return func() {}, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// bootID identifies the time since this machine was booted.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
