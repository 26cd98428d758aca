package main

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/store"
)

// What the store has already costs nothing.
func TestNewBlobsAreCounted(t *testing.T) {
	s, err := store.Open(t.Context(), t.TempDir())
	require.NoError(t, err)
	defer s.Close()
	counted := &countingStore{Store: s}
	put := func(content string) {
		desc := ocispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
		_, err := counted.PutBlob(t.Context(), desc, strings.NewReader(content))
		require.NoError(t, err)
	}
	put("one")
	put("three")
	put("one")
	assert.EqualValues(t, len("one")+len("three"), counted.fresh.Load())

	_, err = counted.PutBlob(t.Context(), ocispec.Descriptor{Digest: digest.FromString("two"), Size: 3}, strings.NewReader("owt"))
	require.Error(t, err)
	assert.EqualValues(t, len("one")+len("three"), counted.fresh.Load())
}
