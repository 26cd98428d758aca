package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

func TestSweepRemovesWhatNoRefLeadsTo(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		one, two := publish(t, s, "one"), publish(t, s, "two")
		orphan, content := blob(5000)
		put(t, s, orphan, content)

		swept, err := s.Sweep(ctx)
		require.NoError(t, err)
		require.Equal(t, Swept{Blobs: 1, Bytes: 5000}, swept)
		require.NoError(t, snapshot.Verify(ctx, s, one.Manifest))
		require.NoError(t, snapshot.Verify(ctx, s, two.Manifest))

		require.NoError(t, s.DeleteRef(ctx, one.Name, one.Generation))
		_, err = s.Sweep(ctx)
		require.NoError(t, err)
		require.NoError(t, snapshot.Verify(ctx, s, two.Manifest), "what two shares with one stays")
		require.ErrorIs(t, snapshot.Verify(ctx, s, one.Manifest), ErrNotFound)

		require.NoError(t, s.DeleteRef(ctx, two.Name, two.Generation))
		_, err = s.Sweep(ctx)
		require.NoError(t, err)
		require.Empty(t, p.keys(t))
	})
}

func TestSweepRemovesNothingWhenItCannotTell(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		e := publish(t, s, "one")
		orphan, content := blob(5000)
		put(t, s, orphan, content)
		p.overwrite(t, blobPrefix+e.Manifest.Digest.Encoded(), []byte("damaged"))
		_, err := s.Sweep(ctx)
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, e.Name)
		require.ErrorContains(t, err, "criu-docker rm")
		_, err = s.StatBlob(ctx, orphan.Digest)
		require.NoError(t, err)
		require.NotContains(t, strings.Join(p.keys(t), " "), lockPrefix)
	})
}

func TestSweepAndPublicationExcludeEachOther(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		publisher, sweeper := openAt(t, p), openAt(t, p)
		done, err := publisher.Publishing(ctx)
		require.NoError(t, err)
		also, err := openAt(t, p).Publishing(ctx)
		require.NoError(t, err, "publications don't exclude each other")
		orphan, content := blob(5000)
		put(t, publisher, orphan, content)
		for range 2 {
			swept, err := sweeper.Sweep(ctx)
			require.NoError(t, err)
			require.Equal(t, Swept{Busy: true}, swept)
			done()
			done, also = also, func() {}
		}
		swept, err := sweeper.Sweep(ctx)
		require.NoError(t, err)
		require.Equal(t, Swept{Blobs: 1, Bytes: 5000}, swept)

		l, _, err := sweeper.locks.acquire(ctx, lockSweep) // as a sweep that is under way
		require.NoError(t, err)
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, err = publisher.Publishing(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "waiting for the sweep")
		swept, err = publisher.Sweep(ctx)
		require.NoError(t, err)
		require.False(t, swept.Busy, "sweeps don't exclude each other")

		began := make(chan error)
		go func() {
			done, err := publisher.Publishing(ctx)
			if err == nil {
				done()
			}
			began <- err
		}()
		require.NoError(t, l.release())
		require.NoError(t, <-began, "it goes on when the sweep has ended")
		require.Empty(t, p.keys(t), "no locks stay")
	})
}

// Removing a snapshot sweeps. If many are removed at the same time, nothing of them stays.
func TestRemovalsAtOnceLeaveNothing(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		var entries []Entry
		s := openAt(t, p)
		for _, name := range []string{"a", "b", "c", "d"} {
			entries = append(entries, publish(t, s, name))
		}
		var wg sync.WaitGroup
		for _, e := range entries {
			remover := openAt(t, p)
			wg.Go(func() {
				if err := remover.DeleteRef(ctx, e.Name, e.Generation); err != nil {
					t.Error(err)
				}
				if _, err := remover.Sweep(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Empty(t, p.keys(t))
	})
}

// However publications and sweeps fall together, what was published is whole.
func TestSweepsAmongPublications(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		var published sync.Map
		var wg sync.WaitGroup
		var stop atomic.Bool
		for _, name := range []string{"a", "b", "c"} {
			s := openAt(t, p)
			wg.Go(func() {
				for range 4 {
					done, err := s.Publishing(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					e := publish(t, s, name)
					done()
					if err := snapshot.Verify(ctx, s, e.Manifest); err != nil {
						t.Error(err)
					}
					published.Store(name, e)
					if err := s.DeleteRef(ctx, e.Name, e.Generation); err != nil { // its blobs are swept, or found and used again
						t.Error(err)
					}
				}
			})
		}
		sweeper := openAt(t, p)
		swept := make(chan struct{})
		go func() {
			defer close(swept)
			for !stop.Load() {
				if _, err := sweeper.Sweep(ctx); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrNoStore) {
					t.Error(err)
				}
			}
		}()
		wg.Wait()
		stop.Store(true)
		<-swept
		_, err := sweeper.Sweep(ctx)
		require.NoError(t, err)
		require.Empty(t, p.keys(t))
	})
}

func TestStaleLocksAreRemoved(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		for _, kind := range []lockKind{lockPublish, "something new"} {
			s := newBucketStore("test://store", &agingBucket{Bucket: p.bucket(t), age: lockStale + time.Second})
			writeLock(t, p.bucket(t), lockBody{Kind: kind, Host: "elsewhere", PID: 1})
			swept, err := openAt(t, p).Sweep(ctx)
			require.NoError(t, err)
			require.True(t, swept.Busy, "it is still fresh")
			swept, err = s.Sweep(ctx)
			require.NoError(t, err)
			require.False(t, swept.Busy)
			require.Empty(t, p.keys(t))
		}
	})
}

func TestLockOfUnknownFormatIsKeptClearOf(t *testing.T) {
	s := openAt(t, &dirPlace{filepath.Join(t.TempDir(), "store")})
	_, err := s.bucket.Put(context.Background(), lockPrefix+"x", 4, strings.NewReader("nope"), object.Absent)
	require.NoError(t, err)
	swept, err := s.Sweep(context.Background())
	require.NoError(t, err)
	require.True(t, swept.Busy)
}

// A lock whose holder is known to be dead is not waited for.
func TestLockOfDeadProcess(t *testing.T) {
	p := &dirPlace{filepath.Join(t.TempDir(), "store")}
	dead := exec.Command("true")
	require.NoError(t, dead.Run())
	body := thisHolder(lockPublish)
	body.PID = dead.Process.Pid
	writeLock(t, p.bucket(t), body)
	swept, err := openAt(t, p).Sweep(context.Background())
	require.NoError(t, err)
	require.False(t, swept.Busy)
	require.Empty(t, p.keys(t))
}

// A publisher that was suspended for so long that a sweep took it for dead must not publish what may be gone.
func TestOvertakenPublicationCannotPublish(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		done, err := s.Publishing(ctx)
		require.NoError(t, err)
		late := newBucketStore("test://store", &agingBucket{Bucket: p.bucket(t), age: lockStale + time.Second})
		swept, err := late.Sweep(ctx)
		require.NoError(t, err)
		require.False(t, swept.Busy)
		require.ErrorIs(t, s.PutRef(ctx, "a/b/c", manifestDesc(1), ""), ErrConflict)
		require.Empty(t, p.keys(t))
		done()
		require.NoError(t, s.PutRef(ctx, "a/b/c", manifestDesc(1), ""), "the next publication is not affected")
	})
}

// A sweeper that lost its lock stops before it removes anything more.
func TestOvertakenSweepStops(t *testing.T) {
	p := &dirPlace{filepath.Join(t.TempDir(), "store")}
	ctx := context.Background()
	s := openAt(t, p)
	orphan, content := blob(5000)
	put(t, s, orphan, content)
	l, _, err := s.locks.acquire(ctx, lockSweep)
	require.NoError(t, err)
	l.mu.Lock()
	l.renewed = l.renewed.Add(-lockStale)
	l.mu.Unlock()
	require.NoError(t, s.locks.drop(ctx, l.key, l.info.Generation)) // as somebody else who took it for stale
	require.ErrorIs(t, l.fresh(ctx), errLost)
	require.NoError(t, l.release())
}

// agingBucket shows other objects than its own older than they are.
type agingBucket struct {
	object.Bucket
	age time.Duration

	own sync.Map
}

func (b *agingBucket) Put(ctx context.Context, key string, size int64, r io.Reader, generation string) (object.Info, error) {
	b.own.Store(key, true)
	return b.Bucket.Put(ctx, key, size, r, generation)
}

func (b *agingBucket) List(ctx context.Context, prefix string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		for info, err := range b.Bucket.List(ctx, prefix) {
			if _, own := b.own.Load(info.Key); !own {
				info.Updated = info.Updated.Add(-b.age)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func writeLock(t *testing.T, b object.Bucket, body lockBody) {
	t.Helper()
	content, err := json.Marshal(body)
	require.NoError(t, err)
	_, err = b.Put(context.Background(), lockPrefix+uuid.NewString(), int64(len(content)), bytes.NewReader(content), object.Absent)
	require.NoError(t, err)
}

// publish packs a small snapshot, whose pages are the same whatever its name, and gives it a ref.
func publish(t *testing.T, s Store, name string) Entry {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pages-1.img"), bytes.Repeat([]byte{7}, 8192), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inventory.img"), []byte(name), 0o600))
	desc, _, err := snapshot.Pack(ctx, s, snapshot.Source{CheckpointDir: dir, TempDir: t.TempDir()})
	require.NoError(t, err)
	ref := digest.FromString(name).Encoded() + "/0123456789abcdef/amd64"
	require.NoError(t, s.PutRef(ctx, ref, desc, ""))
	e, err := s.GetRef(ctx, ref)
	require.NoError(t, err)
	return e
}

// Environment of the child process that writes a blob until it is killed.
const childRoot = "STORE_TEST_ROOT"

func TestMain(m *testing.M) {
	if root := os.Getenv(childRoot); root != "" {
		os.Exit(writeUntilKilled(root))
	}
	os.Exit(m.Run())
}

func writeUntilKilled(root string) int {
	ctx := context.Background()
	s, err := Open(ctx, root)
	if err != nil {
		return 1
	}
	if _, err := s.Publishing(ctx); err != nil {
		return 1
	}
	_, _ = os.Stdout.WriteString("begin\n")
	for size := 1 << 20; ; size++ {
		desc, content := blob(size)
		if _, err := s.PutBlob(ctx, desc, bytes.NewReader(content)); err != nil {
			return 1
		}
		if err := s.PutRef(ctx, "a/b/"+uuid.NewString(), desc, ""); err != nil {
			return 1
		}
	}
}

// Whenever a writer is killed, every visible blob is whole, every ref leads to one, and a sweep takes away the rest.
func TestKilledWriter(t *testing.T) {
	ctx := context.Background()
	for i := range 10 {
		root := filepath.Join(t.TempDir(), "store")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childRoot+"="+root)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 1)) // it has begun
		require.NoError(t, err)
		time.Sleep(time.Duration(7*i) * time.Millisecond) // the point of death, not a condition
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()

		s, err := Open(ctx, root)
		require.NoError(t, err)
		blobs, err := os.ReadDir(filepath.Join(root, "blobs", "sha256"))
		if !errors.Is(err, os.ErrNotExist) {
			require.NoError(t, err)
		}
		for _, b := range blobs {
			content, err := os.ReadFile(filepath.Join(root, "blobs", "sha256", b.Name()))
			require.NoError(t, err)
			require.Equal(t, b.Name(), digest.FromBytes(content).Encoded())
		}
		refs, err := s.ListRefs(ctx, "")
		require.NoError(t, err)
		for _, e := range refs {
			_, err := readBlob(ctx, s, e.Manifest)
			require.NoError(t, err)
			require.NoError(t, s.DeleteRef(ctx, e.Name, e.Generation))
		}
		old := time.Now().Add(-time.Hour)
		leftovers, err := os.ReadDir(filepath.Join(root, ".tmp"))
		require.NoError(t, err)
		for _, l := range leftovers {
			require.NoError(t, os.Chtimes(filepath.Join(root, ".tmp", l.Name()), old, old))
		}
		swept, err := s.Sweep(ctx)
		require.NoError(t, err)
		require.False(t, swept.Busy, "the killed writer's lock does not count")
		require.Empty(t, (&dirPlace{root}).keys(t))
		leftovers, err = os.ReadDir(filepath.Join(root, ".tmp"))
		require.NoError(t, err)
		require.Empty(t, leftovers)
	}
}

// Of two publications of one process, one that ends takes nothing from the other, which was about to renew both locks.
func TestConfirmWhileAnotherPublicationEnds(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		require.NoError(t, s.bucket.Create(ctx))
		first, err := s.locks.publish(ctx)
		require.NoError(t, err)
		second, err := s.locks.publish(ctx)
		require.NoError(t, err)
		require.NoError(t, second.release())
		require.NoError(t, second.renew(ctx), "it has ended, and was not lost")
		require.NoError(t, s.locks.confirm(ctx))
		require.NoError(t, first.release())
	})
}
