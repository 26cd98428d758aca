package store

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/store/internal/dir"
	"github.com/criu-docker/criu-docker/shared/store/internal/gcs"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

// place is where a store lives in a test, with what can go wrong there.
type place interface {
	bucket(t *testing.T) object.Bucket            // opened anew, as by another process
	overwrite(t *testing.T, key string, b []byte) // behind the store's back
	keys(t *testing.T) []string                   // everything that is visible
	stop(t *testing.T)                            // the store is down from now on
}

// eachPlace runs a test on every backend.
func eachPlace(t *testing.T, test func(t *testing.T, p place)) {
	t.Run("dir", func(t *testing.T) { test(t, &dirPlace{filepath.Join(t.TempDir(), "store")}) })
	t.Run("gcs", func(t *testing.T) { test(t, newGCSPlace(t)) })
}

func openAt(t *testing.T, p place) *bucketStore {
	t.Helper()
	s := newBucketStore("test://store", p.bucket(t))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// dirPlace is a directory.
type dirPlace struct{ root string }

func (p *dirPlace) bucket(t *testing.T) object.Bucket {
	t.Helper()
	b, err := dir.Open(p.root, false)
	require.NoError(t, err)
	require.NoError(t, b.Create(context.Background()))
	return b
}

func (p *dirPlace) overwrite(t *testing.T, key string, b []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(p.root, key), b, 0o600))
}

func (p *dirPlace) keys(t *testing.T) []string {
	t.Helper()
	var keys []string
	err := filepath.WalkDir(p.root, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(p.root, path)
		if err == nil && d.Type().IsRegular() && !strings.HasPrefix(rel, ".") {
			keys = append(keys, rel)
		}
		return err
	})
	require.NoError(t, err)
	return keys
}

func (p *dirPlace) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, os.Rename(p.root, p.root+".unmounted"))
	require.NoError(t, os.WriteFile(p.root, nil, 0o600))
}

// gcsPlace is a bucket of an emulator that is spoken to over HTTP.
type gcsPlace struct {
	server *fakestorage.Server
	http   *httptest.Server
	fault  atomic.Pointer[fault]
	// retryFor is short where requests are bound to fail; elsewhere it must suffice on a busy machine.
	retryFor time.Duration

	deleting sync.Mutex
}

// fault answers a request in the emulator's place, or returns false to let it pass.
type fault func(w http.ResponseWriter, r *http.Request) bool

const (
	testBucket = "snapshots"
	testPrefix = "team/a"
	partSize   = 1 << 20 // small, so that tests of big objects need not be big
)

func newGCSPlace(t *testing.T) *gcsPlace {
	t.Helper()
	p := &gcsPlace{retryFor: time.Minute}
	p.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r) }))
	t.Cleanup(p.http.Close)
	host := p.http.Listener.Addr().String()
	var err error
	p.server, err = fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, Scheme: "http", PublicHost: host, ExternalURL: p.http.URL})
	require.NoError(t, err)
	t.Cleanup(p.server.Stop)
	p.server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: testBucket})
	t.Setenv("STORAGE_EMULATOR_HOST", host)
	return p
}

// serve adds what the emulator leaves out: preconditions of deletions.
func (p *gcsPlace) serve(w http.ResponseWriter, r *http.Request) {
	if f := p.fault.Load(); f != nil && (*f)(w, r) {
		return
	}
	want := r.URL.Query().Get("ifGenerationMatch")
	if r.Method != http.MethodDelete || want == "" {
		p.server.HTTPHandler().ServeHTTP(w, r)
		return
	}
	p.deleting.Lock()
	defer p.deleting.Unlock()
	_, key, _ := strings.Cut(r.URL.Path, "/o/")
	if o, err := p.server.GetObject(testBucket, key); err == nil && strconv.FormatInt(o.Generation, 10) != want {
		w.WriteHeader(http.StatusPreconditionFailed)
		fmt.Fprint(w, `{"error": {"code": 412, "message": "conditionNotMet"}}`)
		return
	}
	p.server.HTTPHandler().ServeHTTP(w, r)
}

func (p *gcsPlace) bucket(t *testing.T) object.Bucket {
	t.Helper()
	return p.open(t, testBucket)
}

func (p *gcsPlace) open(t *testing.T, name string) object.Bucket {
	t.Helper()
	limits := gcs.Limits{RetryFor: p.retryFor, Request: time.Minute, PartSize: partSize, Parallel: 4}
	b, err := gcs.Open(context.Background(), name, testPrefix, limits)
	require.NoError(t, err)
	return b
}

func (p *gcsPlace) overwrite(t *testing.T, key string, b []byte) {
	t.Helper()
	p.server.CreateObject(fakestorage.Object{
		ObjectAttrs: fakestorage.ObjectAttrs{BucketName: testBucket, Name: testPrefix + "/" + key},
		Content:     b,
	})
}

func (p *gcsPlace) keys(t *testing.T) []string {
	t.Helper()
	objects, err := p.server.ListObjectsWithOptionsPaginated(testBucket, fakestorage.ListOptions{})
	require.NoError(t, err)
	var keys []string
	for _, o := range objects.Objects {
		keys = append(keys, strings.TrimPrefix(o.Name, testPrefix+"/"))
	}
	return keys
}

func (p *gcsPlace) stop(*testing.T) {
	p.http.CloseClientConnections()
	p.http.Close()
}
