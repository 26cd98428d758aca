package e2e

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// ballast holds 64 MiB of memory, needs a tenth of it for an answer to /, and all of it, checked, for one to /all.
func (l *lab) ballast() engine.Spec {
	spec := l.spec("ballast:lab", "")
	spec.Config.Cmd = []string{"64"}
	return spec
}

var ballastReady = build.Probe{Type: build.ProbeHTTP, Port: 80, Path: "/", Status: 200, Timeout: time.Minute}

// unneeded returns a blob of a snapshot's memory that the app does not need for an answer to /: one from the midst of what
// was not needed in the profile, where only ballast is.
func (l *lab) unneeded(built *build.Result) string {
	l.Helper()
	var rest []string
	m, err := snapshot.LoadManifest(l.ctx, l.store, built.Manifest)
	require.NoError(l, err)
	all, err := snapshot.Frames(m)
	require.NoError(l, err)
	for _, f := range all {
		if !f.First {
			rest = append(rest, f.Layer.Digest.Encoded())
		}
	}
	require.Greater(l, len(rest), 10, "of %d frames; profile: %s", len(all), l.profiled)
	require.Less(l, len(rest), len(all), "the profile tells what is needed first: %s", l.profiled)
	return rest[len(rest)/2]
}

// faults is what stands between the core and the bucket: it holds up one blob's download, and then does something to it.
type faults struct {
	blob   string // hex
	opened chan struct{}

	mu    sync.Mutex
	spoil func(w http.ResponseWriter, good []byte)
}

// throughFaults moves a test's snapshots to a bucket that is reached through faults.
func throughFaults(l *lab) *faults {
	l.Helper()
	bucket, err := url.Parse(os.Getenv("STORAGE_EMULATOR_HOST"))
	require.NoError(l, err)
	f := &faults{opened: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(bucket)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || f.blob == "" || !strings.Contains(r.URL.Path, f.blob) {
			proxy.ServeHTTP(w, r)
			return
		}
		select {
		case <-f.opened:
		case <-r.Context().Done():
			return
		}
		f.mu.Lock()
		spoil := f.spoil
		f.mu.Unlock()
		if spoil == nil {
			proxy.ServeHTTP(w, r)
			return
		}
		good := httptest.NewRecorder()
		proxy.ServeHTTP(good, r)
		maps.Copy(w.Header(), good.Header())
		spoil(w, good.Body.Bytes())
	}))
	l.Cleanup(server.Close)
	l.Setenv("STORAGE_EMULATOR_HOST", server.URL)
	s, err := store.Open(l.ctx, "gs://snapshots/"+filepath.Base(l.dir))
	require.NoError(l, err)
	l.store = s
	l.Cleanup(func() {
		refs, err := s.ListRefs(context.Background(), "")
		require.NoError(l, err)
		for _, ref := range refs {
			require.NoError(l, s.DeleteRef(context.Background(), ref.Name, ref.Generation))
		}
		_, err = s.Sweep(context.Background())
		require.NoError(l, err)
		require.NoError(l, s.Close())
	})
	return f
}

// open lets the download go on, with spoil done to it if that is not nil.
func (f *faults) open(spoil func(w http.ResponseWriter, good []byte)) {
	f.mu.Lock()
	f.spoil = spoil
	f.mu.Unlock()
	close(f.opened)
}

// heal lets every download through from now on.
func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spoil = nil
}

func (l *lab) lazily(spec engine.Spec) *restore.Result {
	l.Helper()
	r := l.lazilyBy(restore.PolicyAlways, spec)
	require.Equal(l, restore.Hot, r.Start)
	return r
}

func (l *lab) lazilyBy(policy restore.Policy, spec engine.Spec) *restore.Result {
	l.Helper()
	r, err := restore.Run(l.ctx, l.eng, restore.Options{Spec: spec, Policy: policy, Store: l.store, Cache: l.cache, Memory: restore.MemoryLazy})
	require.NoError(l, err)
	return r
}

// heldUp starts a clone of ballast whose download of what it does not need for an answer to / is held up.
func (l *lab) heldUp(spec engine.Spec) (*restore.Result, *faults) {
	l.Helper()
	f := throughFaults(l)
	f.blob = l.unneeded(l.build(l.ballast(), ballastReady))
	return l.lazily(spec), f
}

func TestCloneAnswersWhileItsMemoryIsStillDownloaded(t *testing.T) {
	l := newLab(t)
	faults := throughFaults(l)
	built := l.build(l.ballast(), ballastReady)
	faults.blob = l.unneeded(built)
	r := l.lazily(l.ballast())
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/"), "what was filled in")
	require.NotEqual(t, -1, victims["pages"](r.ContainerID), "the rest is under way")

	// A second clone shares what is there, and waits for the same frame.
	second := l.lazily(l.ballast())
	require.Contains(t, l.mustGet("http://"+l.ip(second.ContainerID)+"/"), "what was filled in")

	faults.open(nil)
	for _, id := range []string{r.ContainerID, second.ContainerID} {
		require.Contains(t, l.mustGet("http://"+l.ip(id)+"/all"), "what was filled in")
		l.filled(id)
		require.Empty(t, l.report(id).Lost)
	}
	// What has come by pieces is a whole snapshot.
	e, err := l.cache.Get(l.ctx, l.store, built.Manifest)
	require.NoError(t, err)
	defer e.Release()
	require.True(t, e.Warm)
}

// filled waits until nothing of a clone's memory is missing any more, and no server is left.
func (l *lab) filled(id string) {
	l.Helper()
	l.eventually(func() bool { return victims["pages"](id) == -1 && victims["supervisor"](id) == -1 }, "the page server is done")
}

func TestCloneIsKilledWithItsPageServer(t *testing.T) {
	l := newLab(t)
	spec := l.ballast()
	spec.Host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 1}
	r, faults := l.heldUp(spec)
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/"), "what was filled in")
	first := l.state(r.ContainerID).Pid

	require.NoError(t, unix.Kill(victims["pages"](r.ContainerID), unix.SIGKILL))
	l.eventually(func() bool {
		c := l.inspect(r.ContainerID)
		return c.State.Running && c.State.Pid != first && c.RestartCount == 1 && l.ip(r.ContainerID) != ""
	}, "the engine restarts it")
	faults.open(nil)
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
	l.filled(r.ContainerID)
}

func TestCloneWithoutAPageServerIsNotLeftHalfAlive(t *testing.T) {
	l := newLab(t)
	r, _ := l.heldUp(l.ballast())
	require.NoError(t, unix.Kill(victims["pages"](r.ContainerID), unix.SIGKILL))
	l.eventually(func() bool { return !l.state(r.ContainerID).Running }, "the clone is killed")
	require.Equal(t, 137, l.state(r.ContainerID).ExitCode)
	require.Contains(t, l.report(r.ContainerID).Lost, "before all of its memory was there: page server: it was killed")
}

func TestCloneOutlivesItsSupervisor(t *testing.T) {
	l := newLab(t)
	r, faults := l.heldUp(l.ballast())
	require.NoError(t, unix.Kill(victims["supervisor"](r.ContainerID), unix.SIGKILL))
	faults.open(nil)
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
	l.filled(r.ContainerID)
}

func TestCloneWithoutSupervisorIsNotLeftHalfAliveEither(t *testing.T) {
	l := newLab(t)
	r, faults := l.heldUp(l.ballast())
	require.NoError(t, unix.Kill(victims["supervisor"](r.ContainerID), unix.SIGKILL))
	faults.open(func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusNotFound) })
	l.eventually(func() bool { return !l.state(r.ContainerID).Running }, "the page server kills the clone")
}

func TestDownloadThatBreaksOff(t *testing.T) {
	for name, test := range map[string]struct {
		spoil  func(w http.ResponseWriter, good []byte)
		reason string
	}{
		"gone": {func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusNotFound) }, "not found in the store"},
		"damaged": {func(w http.ResponseWriter, good []byte) {
			good[len(good)/2] ^= 1
			w.Header().Del("X-Goog-Hash") // by which the client would find out
			_, _ = w.Write(good)
		}, "does not match its digest or size"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			faults := throughFaults(l)
			faults.blob = l.unneeded(l.build(l.ballast(), ballastReady))
			r := l.lazilyBy(restore.PolicyIfPresent, l.ballast())
			require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/"), "what was filled in")
			faults.open(test.spoil)
			l.eventually(func() bool { return !l.state(r.ContainerID).Running }, "the clone is killed")
			lost := l.report(r.ContainerID).Lost
			require.Contains(t, lost, faults.blob)
			require.Contains(t, lost, test.reason)

			// Neither the engine, which starts it again, nor the next start goes the same way.
			require.NoError(t, l.eng.Start(l.ctx, r.ContainerID))
			require.Equal(t, "the last time "+lost, l.report(r.ContainerID).Cold)
			require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
			next := l.lazilyBy(restore.PolicyIfPresent, l.ballast())
			require.Equal(t, restore.Cold, next.Start)
			require.Contains(t, next.Reason, test.reason)
			l.removeContainer(next)
			l.removeContainer(r)

			// What had come is good, and the next clone gets the rest.
			faults.heal()
			r = l.lazily(l.ballast())
			require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
			l.filled(r.ContainerID)
		})
	}
}

func TestDownloadThatStumblesIsResumed(t *testing.T) {
	l := newLab(t)
	r, faults := l.heldUp(l.ballast())
	stumbled := make(chan struct{})
	faults.open(func(w http.ResponseWriter, good []byte) {
		faults.heal()
		close(stumbled)
		_, _ = w.Write(good[:len(good)/2])
		panic(http.ErrAbortHandler)
	})
	<-stumbled
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
	l.filled(r.ContainerID)
	require.Empty(t, l.report(r.ContainerID).Lost)
}

func TestSnapshotThatLacksMemoryIsNotRestored(t *testing.T) {
	l := newLab(t)
	built := l.build(l.ballast(), ballastReady)
	m, err := snapshot.LoadManifest(l.ctx, l.store, built.Manifest)
	require.NoError(t, err)
	frames, err := snapshot.Frames(m)
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(l.dir, "store", "blobs", "sha256", frames[0].Layer.Digest.Encoded())))
	r, err := restore.Run(l.ctx, l.eng, restore.Options{Spec: l.ballast(), Policy: restore.PolicyIfPresent, Store: l.store, Cache: l.cache, Memory: restore.MemoryLazy})
	require.NoError(t, err)
	require.Equal(t, restore.Cold, r.Start)
	require.Contains(t, r.Reason, "not found in the store")
}

func TestSnapshotThatIsNotWholeIsCompletedForAnEagerClone(t *testing.T) {
	l := newLab(t)
	built := l.build(l.ballast(), ballastReady)
	begun, err := l.cache.Begin(l.ctx, l.store, built.Manifest)
	require.NoError(t, err)
	require.NotNil(t, begun.Filling)
	begun.Release()
	r, err := restore.Run(l.ctx, l.eng, restore.Options{Spec: l.ballast(), Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, Memory: restore.MemoryEager})
	require.NoError(t, err)
	require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
	require.Equal(t, -1, victims["pages"](r.ContainerID))
}

// A page that has rotted on this machine's disk reaches no app: the clone is lost, and the next one gets the page anew.
func TestRottenCacheIsNotRestored(t *testing.T) {
	l := newLab(t)
	built := l.build(l.ballast(), ballastReady)
	for name, memory := range map[string]restore.Memory{"lazy": restore.MemoryLazy, "eager": restore.MemoryEager} {
		t.Run(name, func(t *testing.T) {
			entry, err := l.cache.Get(l.ctx, l.store, built.Manifest)
			require.NoError(t, err)
			l.rot(entry.Dir, built)
			entry.Release()
			start := func() (*restore.Result, error) {
				return restore.Run(l.ctx, l.eng, restore.Options{Spec: l.ballast(), Policy: restore.PolicyAlways, Store: l.store, Cache: l.cache, Memory: memory})
			}
			const reason = "the checkpoint was damaged on this machine's disk"
			r, err := start()
			if memory == restore.MemoryEager {
				require.ErrorContains(t, err, reason)
			} else {
				if err == nil {
					l.eventually(func() bool { return !l.state(r.ContainerID).Running }, "the clone is killed")
					require.Contains(t, l.report(r.ContainerID).Lost, reason)
					l.removeContainer(r)
				} else {
					require.ErrorContains(t, err, reason, "before it ran")
				}
			}
			r, err = start()
			require.NoError(t, err)
			require.Contains(t, l.mustGet("http://"+l.ip(r.ContainerID)+"/all"), "what was filled in")
			l.filled(r.ContainerID)
			l.removeContainer(r)
		})
	}
}

// rot changes a byte of memory that the app does not need for an answer to /.
func (l *lab) rot(dir string, built *build.Result) {
	l.Helper()
	m, err := snapshot.LoadManifest(l.ctx, l.store, built.Manifest)
	require.NoError(l, err)
	frames, err := snapshot.Frames(m)
	require.NoError(l, err)
	last := frames[len(frames)-1]
	f, err := os.OpenFile(filepath.Join(dir, "checkpoint", last.File), os.O_RDWR, 0)
	require.NoError(l, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, last.Extents[0].Offset+100)
	require.NoError(l, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, last.Extents[0].Offset+100)
	require.NoError(l, err)
}
