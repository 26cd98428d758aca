package store

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

func TestOpen(t *testing.T) {
	for address, want := range map[string]string{
		"":                  "empty",
		"s3://bucket":       "gs://bucket/prefix",
		"gs://":             "gs://bucket",
		"gs:///x":           "gs://bucket",
		"gs:/x":             "gs://bucket",
		"gs://b//x":         "gs://bucket",
		"file://host/a/dir": "file:///absolute/path",
	} {
		_, err := Open(context.Background(), address)
		require.ErrorContains(t, err, want, address)
		require.ErrorContains(t, err, fmt.Sprintf("%q", address))
		require.EqualError(t, Validate(address), err.Error())
	}
	for _, address := range []string{t.TempDir(), "file://" + t.TempDir()} {
		s, err := Open(context.Background(), address+"/")
		require.NoError(t, err)
		require.Equal(t, address, s.URL())
	}
	newGCSPlace(t) // sets STORAGE_EMULATOR_HOST
	s, err := Open(context.Background(), "gs://"+testBucket+"/"+testPrefix)
	require.NoError(t, err)
	require.NoError(t, s.PutRef(context.Background(), "a/b/c", manifestDesc(1), object.Absent))
	require.NoError(t, s.Close())
}

// A directory that is not there, perhaps since it is not mounted, must not look like a store that has nothing.
func TestNoStore(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "deep", "store")
	s, err := Open(ctx, root)
	require.NoError(t, err)
	desc, content := blob(100)
	reads := map[string]func() error{
		"StatBlob":  func() error { _, err := s.StatBlob(ctx, desc.Digest); return err },
		"OpenBlob":  func() error { _, err := s.OpenBlob(ctx, desc); return err },
		"GetRef":    func() error { _, err := s.GetRef(ctx, "a/b/c"); return err },
		"ListRefs":  func() error { _, err := s.ListRefs(ctx, ""); return err },
		"DeleteRef": func() error { return s.DeleteRef(ctx, "a/b/c", "1") },
		"Sweep":     func() error { _, err := s.Sweep(ctx); return err },
	}
	for name, read := range reads {
		err := read()
		require.ErrorIs(t, err, ErrNoStore, name)
		require.NotErrorIs(t, err, ErrNotFound, name)
		require.ErrorContains(t, err, "mounted?", name)
	}
	require.NoDirExists(t, root, "reading creates nothing")

	done, err := s.Publishing(ctx)
	require.NoError(t, err)
	put(t, s, desc, content)
	require.NoError(t, s.PutRef(ctx, "a/b/c", desc, ""))
	done()
	require.Equal(t, []string{"a/b/c"}, names(t, s, ""))
	_, err = s.GetRef(ctx, "x/y/z")
	require.ErrorIs(t, err, ErrNotFound)
}
