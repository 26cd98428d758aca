package store_test

import (
	"context"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/store"
)

func TestResolve(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(ctx, t.TempDir())
	require.NoError(t, err)
	defer s.Close()
	image := "aaaa" + strings.Repeat("0", 60)
	names := []string{
		image + "/1111222233334444/amd64",
		image + "/1111999933334444/amd64",
		"bbbb" + strings.Repeat("0", 60) + "/1111222233334444/amd64",
	}
	digests := map[string]digest.Digest{}
	for _, name := range names {
		manifest := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(name), Size: 7}
		digests[name] = manifest.Digest
		require.NoError(t, s.PutRef(ctx, name, manifest, ""))
	}
	for _, name := range names {
		d := digests[name]
		for _, ref := range []string{name, name[:len(name)-2], strings.TrimSuffix(name, "/amd64"), name[:70], name[:12] + name[64:], name[:4] + name[64:70], d.String(), d.String()[:20]} {
			got, err := store.Resolve(ctx, s, ref)
			require.NoError(t, err, ref)
			require.Equal(t, name, got.Name, ref)
			require.Equal(t, d, got.Manifest.Digest)
		}
	}
	got, err := store.Resolve(ctx, s, "bbbb")
	require.NoError(t, err)
	require.Equal(t, names[2], got.Name)

	_, err = store.Resolve(ctx, s, "aaaa")
	require.ErrorIs(t, err, store.ErrAmbiguous)
	require.ErrorContains(t, err, names[0]+", "+names[1])
	for _, none := range []string{"cccc", "sha256:cccccccc", image + "/5555/amd64", "redmine:5.0", "aaaab/b/c", image + "/1111222233334444/amd64/more"} {
		_, err = store.Resolve(ctx, s, none)
		require.ErrorIs(t, err, store.ErrNotFound, none)
	}
	for _, short := range []string{"", "a", "sha256:", "sha256:abc"} {
		_, err = store.Resolve(ctx, s, short)
		require.ErrorContains(t, err, "at least 4 characters", short)
	}
}
