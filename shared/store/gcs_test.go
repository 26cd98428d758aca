package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/store/internal/gcs"
)

func TestBucketThatCannotBeUsedSaysWhy(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusForbidden:    "roles/storage.objectUser",
		http.StatusUnauthorized: "gcloud auth application-default login",
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			p := newGCSPlace(t)
			s := openAt(t, p)
			p.setFault(answer(status))
			requireUnusable(t, s, want)
		})
	}
	t.Run("missing", func(t *testing.T) {
		p := newGCSPlace(t)
		requireUnusable(t, newBucketStore("gs://elsewhere", p.open(t, "elsewhere")), "bucket elsewhere does not exist")
	})
	t.Run("silent", func(t *testing.T) {
		p := newGCSPlace(t)
		released := make(chan struct{})
		t.Cleanup(func() { close(released) })
		p.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
			select { // takes the request and never answers
			case <-r.Context().Done():
			case <-released:
			}
			return true
		})
		limits := gcs.Limits{RetryFor: 50 * time.Millisecond, Request: 100 * time.Millisecond, PartSize: partSize, Parallel: 4}
		b, err := gcs.Open(context.Background(), testBucket, testPrefix, limits)
		require.NoError(t, err)
		requireUnusable(t, newBucketStore("gs://snapshots", b), "unreachable")
	})
}

func requireUnusable(t *testing.T, s *bucketStore, want string) {
	t.Helper()
	ctx := context.Background()
	desc, content := blob(100)
	for name, call := range map[string]func() error{
		"StatBlob": func() error { _, err := s.StatBlob(ctx, desc.Digest); return err },
		"OpenBlob": func() error { _, err := readBlob(ctx, s, desc); return err },
		"PutBlob":  func() error { _, err := s.PutBlob(ctx, desc, bytes.NewReader(content)); return err },
		"GetRef":   func() error { _, err := s.GetRef(ctx, "a/b/c"); return err },
		"PutRef":   func() error { return s.PutRef(ctx, "a/b/c", desc, "") },
		"ListRefs": func() error { _, err := s.ListRefs(ctx, ""); return err },
	} {
		err := call()
		require.ErrorContains(t, err, want, name)
		require.NotErrorIs(t, err, ErrNotFound, name)
		require.NotErrorIs(t, err, ErrConflict, name)
	}
}

func TestTransientErrorsAreRetried(t *testing.T) {
	p := newGCSPlace(t)
	ctx := context.Background()
	s := openAt(t, p)
	for _, size := range []int{1000, 3*partSize + 1} {
		desc, content := blob(size)
		var requests atomic.Int32
		p.setFault(func(w http.ResponseWriter, r *http.Request) bool { // every other request fails
			return requests.Add(1)%2 == 1 && answer(http.StatusServiceUnavailable)(w, r)
		})
		put(t, s, desc, content)
		got, err := readBlob(ctx, s, desc)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got))
		require.Greater(t, requests.Load(), int32(2))
	}
}

// A connection that breaks in the middle of a download is picked up where it broke.
func TestBrokenDownloadIsResumed(t *testing.T) {
	p := newGCSPlace(t)
	s := openAt(t, p)
	desc, content := blob(3*partSize + 1)
	put(t, s, desc, content)
	var cut atomic.Int32
	p.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("alt") != "media" || cut.Add(1) > 3 {
			return false
		}
		rec := httptest.NewRecorder()
		p.server.HTTPHandler().ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
		panic(http.ErrAbortHandler) // the client sees the connection end
	})
	got, err := readBlob(context.Background(), s, desc)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.Greater(t, cut.Load(), int32(3))
}

// What arrives changed is refused by the service: it was told the CRC32C.
func TestUploadDamagedOnTheWayIsRefused(t *testing.T) {
	for _, size := range []int{1000, 3*partSize + 1} {
		p := newGCSPlace(t)
		s := openAt(t, p)
		desc, content := blob(size)
		hit := content[10:110]
		p.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/upload") || strings.HasPrefix(r.URL.Path, "/resumable") {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(bytes.Replace(body, hit, make([]byte, len(hit)), 1)))
			}
			return false
		})
		_, err := s.PutBlob(context.Background(), desc, bytes.NewReader(content))
		require.Error(t, err, "%d bytes", size)
		require.Empty(t, p.keys(t))
	}
}

// A ref that was written although the answer was lost is no conflict with ourselves.
func TestLostAnswerToPutRef(t *testing.T) {
	p := newGCSPlace(t)
	s := openAt(t, p)
	var lost atomic.Bool
	p.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/upload") || lost.Swap(true) {
			return false
		}
		p.server.HTTPHandler().ServeHTTP(httptest.NewRecorder(), r)
		return answer(http.StatusBadGateway)(w, r)
	})
	require.NoError(t, s.PutRef(context.Background(), "a/b/c", manifestDesc(1), ""))
	require.True(t, lost.Load())
	require.Equal(t, []string{"a/b/c"}, names(t, s, ""))
}

func (p *gcsPlace) setFault(f fault) { p.fault.Store(&f) }

func answer(status int) fault {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error": {"code": %d, "message": "made up by the test"}}`, status)
		return true
	}
}
