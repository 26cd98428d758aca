package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

func TestBlobs(t *testing.T) {
	for _, size := range []int{0, 1, 1000, partSize - 1, partSize, partSize + 1, 5*partSize + 17} {
		eachPlace(t, func(t *testing.T, p place) {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				ctx := context.Background()
				s := openAt(t, p)
				desc, content := blob(size)

				_, err := s.StatBlob(ctx, desc.Digest)
				require.ErrorIs(t, err, ErrNotFound)
				_, err = s.OpenBlob(ctx, desc)
				require.ErrorIs(t, err, ErrNotFound)
				_, err = s.ReadBlobAt(ctx, desc.Digest, 0, 1)
				require.ErrorIs(t, err, ErrNotFound)

				existed, err := s.PutBlob(ctx, desc, bytes.NewReader(content))
				require.NoError(t, err)
				require.False(t, existed)
				existed, err = s.PutBlob(ctx, desc, iotest.ErrReader(errors.New("read without need")))
				require.NoError(t, err)
				require.True(t, existed)

				got, err := readBlob(ctx, openAt(t, p), desc)
				require.NoError(t, err)
				require.True(t, bytes.Equal(content, got))
				n, err := s.StatBlob(ctx, desc.Digest)
				require.NoError(t, err)
				require.EqualValues(t, size, n)
				require.Equal(t, []string{"blobs/sha256/" + desc.Digest.Encoded()}, p.keys(t))
			})
		})
	}
}

func TestReadBlobAt(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		desc, content := blob(4*partSize + 5)
		put(t, s, desc, content)
		for _, r := range [][2]int64{{0, 10}, {7, 2 * partSize}, {partSize - 1, 3*partSize + 6}, {desc.Size - 1, 1}, {desc.Size, 0}, {3, 0}} {
			rc, err := s.ReadBlobAt(ctx, desc.Digest, r[0], r[1])
			require.NoError(t, err)
			got, err := io.ReadAll(rc)
			require.NoError(t, err)
			require.NoError(t, rc.Close())
			require.True(t, bytes.Equal(content[r[0]:r[0]+r[1]], got), "%d bytes at %d", r[1], r[0])
		}
		for _, r := range [][2]int64{{0, desc.Size + 1}, {desc.Size, 1}, {desc.Size + 5, 1}} {
			_, err := s.ReadBlobAt(ctx, desc.Digest, r[0], r[1])
			require.ErrorIs(t, err, ErrCorrupt, "%d bytes at %d", r[1], r[0])
		}
		_, err := s.ReadBlobAt(ctx, desc.Digest, -1, 1)
		require.Error(t, err)
	})
}

func TestCorruptBlobsAreRefused(t *testing.T) {
	desc, content := blob(2*partSize + 100)
	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{
		"flipped bit": flipped,
		"truncated":   content[:len(content)-1],
		"too long":    append(bytes.Clone(content), 0),
		"empty":       {},
	} {
		t.Run(name, func(t *testing.T) {
			eachPlace(t, func(t *testing.T, p place) {
				ctx := context.Background()
				s := openAt(t, p)
				put(t, s, desc, content)
				p.overwrite(t, "blobs/sha256/"+desc.Digest.Encoded(), bad)
				_, err := readBlob(ctx, s, desc)
				require.ErrorIs(t, err, ErrCorrupt)
				require.ErrorContains(t, err, desc.Digest.Encoded(), "the error names the blob")
				require.ErrorContains(t, err, s.URL(), "the error names the store")

				if len(bad) == len(content) {
					return
				}
				put(t, s, desc, content) // a damaged blob of another size is seen, and healed
				_, err = readBlob(ctx, s, desc)
				require.NoError(t, err)
			})
		})
	}
}

func TestPutBlobThatFailsLeavesNothing(t *testing.T) {
	for _, size := range []int{1000, 3*partSize + 5} {
		desc, content := blob(size)
		other, _ := blob(size + 1)
		for name, put := range map[string]struct {
			desc ocispec.Descriptor
			r    io.Reader
			want error
		}{
			"wrong content": {ocispec.Descriptor{Digest: other.Digest, Size: desc.Size}, bytes.NewReader(content), ErrCorrupt},
			"too short":     {desc, bytes.NewReader(content[1:]), ErrCorrupt},
			"too long":      {desc, io.MultiReader(bytes.NewReader(content), strings.NewReader("x")), ErrCorrupt},
			"read error":    {desc, io.MultiReader(bytes.NewReader(content[:size/2]), iotest.ErrReader(errSource)), errSource},
			"cancelled":     {desc, nil, context.Canceled},
		} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				eachPlace(t, func(t *testing.T, p place) {
					s := openAt(t, p)
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					r := put.r
					if r == nil { // cancelled on the way
						r = io.MultiReader(bytes.NewReader(content[:size/2]), readFunc(func([]byte) (int, error) {
							cancel()
							return 0, context.Canceled
						}))
					}
					_, err := s.PutBlob(ctx, put.desc, r)
					require.ErrorIs(t, err, put.want)
					require.Empty(t, p.keys(t))
				})
			})
		}
	}
}

var errSource = errors.New("the source broke")

func TestPutBlobOfManyAtOnce(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		desc, content := blob(2 * partSize)
		var wrote atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			s := openAt(t, p)
			wg.Go(func() {
				existed, err := s.PutBlob(context.Background(), desc, bytes.NewReader(content))
				if err != nil {
					t.Error(err)
				}
				if !existed {
					wrote.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, wrote.Load(), "one of all writes it")
		_, err := readBlob(context.Background(), openAt(t, p), desc)
		require.NoError(t, err)
		require.Len(t, p.keys(t), 1)
	})
}

func TestBadDigests(t *testing.T) {
	ctx := context.Background()
	s := openAt(t, &dirPlace{t.TempDir()})
	for _, d := range []digest.Digest{"", "sha256:../../etc/passwd", "sha256:abc", digest.SHA512.FromString("x")} {
		_, err := s.StatBlob(ctx, d)
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrNotFound)
		_, err = s.PutBlob(ctx, ocispec.Descriptor{Digest: d, Size: 1}, strings.NewReader("x"))
		require.Error(t, err)
	}
}

func TestRefs(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		one, two := manifestDesc(1), manifestDesc(2)

		_, err := s.GetRef(ctx, "a/b/amd64")
		require.ErrorIs(t, err, ErrNotFound)
		require.NoError(t, s.PutRef(ctx, "a/b/amd64", one, ""))
		require.NoError(t, s.PutRef(ctx, "a/b/amd64", one, ""), "it points there already")
		first, err := s.GetRef(ctx, "a/b/amd64")
		require.NoError(t, err)
		require.Equal(t, one, first.Manifest)
		require.NotZero(t, first.Updated)

		require.ErrorIs(t, s.PutRef(ctx, "a/b/amd64", two, ""), ErrConflict)
		require.ErrorIs(t, s.PutRef(ctx, "a/b/amd64", two, "12345"), ErrConflict)
		require.NoError(t, s.PutRef(ctx, "a/b/amd64", two, first.Generation))
		require.ErrorIs(t, s.PutRef(ctx, "a/b/amd64", one, first.Generation), ErrConflict, "the generation has passed")
		second, err := openAt(t, p).GetRef(ctx, "a/b/amd64")
		require.NoError(t, err)
		require.Equal(t, two, second.Manifest)
		require.NotEqual(t, first.Generation, second.Generation)

		require.NoError(t, s.PutRef(ctx, "a/a/amd64", one, ""))
		require.NoError(t, s.PutRef(ctx, "b/a/amd64", one, ""))
		require.Equal(t, []string{"a/a/amd64", "a/b/amd64", "b/a/amd64"}, names(t, s, ""))
		require.Equal(t, []string{"a/a/amd64", "a/b/amd64"}, names(t, s, "a/"))
		require.Empty(t, names(t, s, "c/"))
		_, err = s.GetRef(ctx, "a/b")
		require.ErrorIs(t, err, ErrNotFound, "a part of a name is no ref")

		require.ErrorIs(t, s.DeleteRef(ctx, "a/b/amd64", first.Generation), ErrConflict)
		require.NoError(t, s.DeleteRef(ctx, "a/b/amd64", second.Generation))
		require.ErrorIs(t, s.DeleteRef(ctx, "a/b/amd64", second.Generation), ErrNotFound)
		require.ErrorIs(t, s.PutRef(ctx, "a/b/amd64", one, second.Generation), ErrConflict, "it is gone")
		require.Equal(t, []string{"a/a/amd64", "b/a/amd64"}, names(t, s, ""))
	})
}

func TestRefRaceHasOneWinner(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		require.NoError(t, openAt(t, p).PutRef(ctx, "a/b/c", manifestDesc(0), ""))
		start, err := openAt(t, p).GetRef(ctx, "a/b/c")
		require.NoError(t, err)
		var won atomic.Int32
		var wg sync.WaitGroup
		for i := range 8 {
			s := openAt(t, p)
			wg.Go(func() {
				switch err := s.PutRef(ctx, "a/b/c", manifestDesc(1+i), start.Generation); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, ErrConflict):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, won.Load())
	})
}

func TestBadRefs(t *testing.T) {
	ctx := context.Background()
	p := &dirPlace{t.TempDir()}
	s := openAt(t, p)
	for _, name := range []string{"", "/", "a//b", "../x", "a/../../x", "/a", "a/", "."} {
		require.Error(t, s.PutRef(ctx, name, manifestDesc(1), ""), name)
		_, err := s.GetRef(ctx, name)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, ErrNotFound, name)
	}
	require.NoError(t, s.PutRef(ctx, "a/b/c", manifestDesc(1), ""))
	for _, content := range []string{"", "{", `{"digest":"sha256:../x","size":3}`, `{"size":3}`, strings.Repeat("x", maxRef+1)} {
		p.overwrite(t, "refs/a/b/c", []byte(content))
		_, err := s.GetRef(ctx, "a/b/c")
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, "refs/a/b/c")
	}
}

func TestOneBadRefHidesNoOther(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		s := openAt(t, p)
		for _, name := range []string{"aaaa/b/c", "bbbb/b/c", "cccc/b/c"} {
			require.NoError(t, s.PutRef(ctx, name, manifestDesc(1), ""))
		}
		p.overwrite(t, "refs/bbbb/b/c", []byte("{"))
		entries, err := s.ListRefs(ctx, "")
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorContains(t, err, "refs/bbbb/b/c")
		require.Len(t, entries, 2)

		found, err := Resolve(ctx, s, "cccc")
		require.NoError(t, err)
		require.Equal(t, "cccc/b/c", found.Name)
		_, err = Resolve(ctx, s, "bbbb")
		require.ErrorIs(t, err, ErrNotFound)
		require.ErrorContains(t, err, "refs/bbbb/b/c")
		_, err = s.Sweep(ctx)
		require.ErrorIs(t, err, ErrCorrupt, "what a ref leads to that can't be read must stay")

		bad, err := s.GetRef(ctx, "bbbb/b/c")
		require.ErrorIs(t, err, ErrCorrupt)
		require.NoError(t, s.DeleteRef(ctx, bad.Name, bad.Generation))
		entries, err = s.ListRefs(ctx, "")
		require.NoError(t, err)
		require.Len(t, entries, 2)
	})
}

// A store that does not answer must never look like one that has nothing.
func TestStoreDown(t *testing.T) {
	eachPlace(t, func(t *testing.T, p place) {
		ctx := context.Background()
		if bucket, ok := p.(*gcsPlace); ok {
			bucket.retryFor = 50 * time.Millisecond
		}
		s := openAt(t, p)
		desc, content := blob(100)
		put(t, s, desc, content)
		require.NoError(t, s.PutRef(ctx, "a/b/c", desc, ""))
		p.stop(t)
		for name, call := range map[string]func() error{
			"StatBlob":   func() error { _, err := s.StatBlob(ctx, desc.Digest); return err },
			"OpenBlob":   func() error { _, err := s.OpenBlob(ctx, desc); return err },
			"ReadBlobAt": func() error { _, err := s.ReadBlobAt(ctx, desc.Digest, 0, 1); return err },
			"PutBlob":    func() error { _, err := s.PutBlob(ctx, desc, bytes.NewReader(content)); return err },
			"PutRef":     func() error { return s.PutRef(ctx, "x/y/z", desc, "") },
			"GetRef":     func() error { _, err := s.GetRef(ctx, "a/b/c"); return err },
			"ListRefs":   func() error { _, err := s.ListRefs(ctx, ""); return err },
			"DeleteRef":  func() error { return s.DeleteRef(ctx, "a/b/c", "1") },
			"Sweep":      func() error { _, err := s.Sweep(ctx); return err },
			"Publishing": func() error { _, err := s.Publishing(ctx); return err },
		} {
			t.Run(name, func(t *testing.T) {
				err := call()
				require.Error(t, err)
				for _, sentinel := range []error{ErrNotFound, ErrConflict, ErrCorrupt} {
					require.NotErrorIs(t, err, sentinel)
				}
				require.ErrorContains(t, err, s.URL())
			})
		}
	})
}

func blob(size int) (ocispec.Descriptor, []byte) {
	content := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)})
	_, _ = r.Read(content)
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(content), Size: int64(size)}, content
}

func manifestDesc(i int) ocispec.Descriptor {
	b := fmt.Append(nil, "manifest ", i)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func put(t *testing.T, s Store, desc ocispec.Descriptor, content []byte) {
	t.Helper()
	_, err := s.PutBlob(context.Background(), desc, bytes.NewReader(content))
	require.NoError(t, err)
}

func readBlob(ctx context.Context, s Store, desc ocispec.Descriptor) ([]byte, error) {
	rc, err := s.OpenBlob(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func names(t *testing.T, s Store, prefix string) []string {
	t.Helper()
	entries, err := s.ListRefs(context.Background(), prefix)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	return names
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
