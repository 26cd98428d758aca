package snapshot_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

const page = snapshot.PageSize

func TestWhatIsNeededFirstComesFirst(t *testing.T) {
	files := map[string][]byte{
		"inventory.img": {1},
		"pages-1.img":   memory(1, 2*snapshot.FrameSize),
		"pages-2.img":   memory(2, 4*page),
		"pages-3.img":   {},
	}
	first := []snapshot.Range{
		{File: "pages-1.img", Offset: 512 * page, Length: 200 * page},
		{File: "pages-2.img", Offset: 2 * page, Length: 1}, // any byte of it is a page
		{File: "pages-1.img", Offset: 100 * page, Length: 100 * page},
		{File: "pages-1.img", Offset: 150 * page, Length: 51 * page}, // of which one is new
		{File: "pages-1.img", Offset: 2047 * page, Length: 1 << 62},  // beyond the end
		{File: "pages-1.img", Offset: 1 << 62, Length: page},
		{File: "pages-1.img", Offset: 0, Length: -1},
		{File: "pages-3.img", Length: page},
		{File: "pages-4.img", Length: page},
		{File: "pages-2.img", Offset: -page, Length: 2 * page},
	}
	_, m := packFirst(t, openStore(t), files, first)
	frames, err := snapshot.Frames(m)
	require.NoError(t, err)
	var got []string
	for _, f := range frames {
		text := f.File + " " + f.Layer.Annotations[snapshot.AnnotationExtents]
		if f.First {
			text = "first " + text
		}
		got = append(got, text)
	}
	require.Equal(t, []string{
		"first pages-1.img 100+101,311+155", // 1 MiB
		"first pages-1.img 667+45,1335+1",
		"first pages-2.img 0+1,1+1",
		"pages-1.img 0+100,101+311,200+613",
		"pages-1.img 1325+722",
		"pages-2.img 1+1,1+1",
	}, got)
}

// Whatever is said to be needed first, frames make up the files again, in any order.
func TestFramesInAnyOrder(t *testing.T) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(7, 0))
	files := map[string][]byte{"inventory.img": {1}, "pages-1.img": memory(1, 9<<20), "pages-22.img": memory(2, 40*page)}
	var first []snapshot.Range
	for range 300 {
		name := []string{"pages-1.img", "pages-22.img"}[r.IntN(2)]
		size := int64(len(files[name]))
		first = append(first, snapshot.Range{File: name, Offset: r.Int64N(size), Length: r.Int64N(10 * page)})
	}
	st := openStore(t)
	desc, m := packFirst(t, st, files, first)
	require.NoError(t, snapshot.Verify(ctx, st, desc))
	dir := t.TempDir()
	_, err := unpack(ctx, st, desc, dir)
	require.NoError(t, err)
	requireFiles(t, dir, files)

	r.Shuffle(len(m.Layers), func(i, j int) { m.Layers[i], m.Layers[j] = m.Layers[j], m.Layers[i] })
	_, cfg, err := snapshot.Load(ctx, st, desc)
	require.NoError(t, err)
	dir = t.TempDir()
	require.NoError(t, snapshot.UnpackFiles(ctx, st, m, cfg, dir))
	requireFiles(t, dir, map[string][]byte{
		"inventory.img": {1}, "pages-1.img": make([]byte, 9<<20), "pages-22.img": make([]byte, 40*page),
	})
	frames, err := snapshot.Frames(m)
	require.NoError(t, err)
	for _, f := range frames {
		b, release, err := snapshot.ReadFrame(ctx, st, f)
		require.NoError(t, err)
		require.EqualValues(t, len(b), f.Length())
		require.NoError(t, snapshot.WriteFrame(filepath.Join(dir, snapshot.CheckpointName), f, b))
		release()
	}
	requireFiles(t, dir, files)
}

func TestBadFrames(t *testing.T) {
	for name, c := range map[string]struct {
		frames []string // "file extents length"
		want   string
	}{
		"hole at the beginning": {[]string{"pages-1.img 1+1 4096"}, "no frame holds its bytes from 0 to 4096"},
		"hole":                  {[]string{"pages-1.img 0+1 4096", "pages-1.img 2+1 4096"}, "no frame holds its bytes from 4096 to 8192"},
		"hole in a frame":       {[]string{"pages-1.img 0+1,1+1 8192"}, "no frame holds its bytes from 4096 to 8192"},
		"overlap":               {[]string{"pages-1.img 0+2 8192", "pages-1.img 1+1 4096"}, "its bytes from 4096 on are held twice"},
		"overlap in a frame":    {[]string{"pages-1.img 0+2,-1+1 12288"}, "its bytes from 4096 on are held twice"},
		"twice":                 {[]string{"pages-1.img 0+1 4096", "pages-1.img 0+1 4096"}, "its bytes from 0 on are held twice"},
		"other file":            {[]string{"pages-1.img 0+1 4096", "pages-2.img 1+1 4096"}, "pages-2.img: no frame holds its bytes from 0 to 4096"},
		"path":                  {[]string{"../pages-1.img 0+1 4096"}, `annotation io.github.criu-docker.file: "../pages-1.img" is not a plain file name`},
		"no file":               {[]string{" 0+1 4096"}, `"" is not a plain file name`},
		"no extents":            {[]string{"pages-1.img  4096"}, `annotation io.github.criu-docker.extents: "" is not a number of pages`},
		"negative":              {[]string{"pages-1.img 0+1,-2+1 8192"}, `begins before the file`},
		"unaligned":             {[]string{"pages-1.img 0.5+1 4096"}, `"0.5" is not a number of pages`},
		"too large":             {[]string{"pages-1.img 0+1025 4198400"}, `not between 1 and 1024`},
		"long list":             {[]string{"pages-1.img " + strings.Repeat("1+1,", 1<<20) + "1+1 4096"}, `not between 1 and 1024`},
		"other length":          {[]string{"pages-1.img 0+2 4096"}, `annotation io.github.criu-docker.length is "4096", and its extents have 8192 bytes`},
		"no length":             {[]string{"pages-1.img 0+1 "}, `annotation io.github.criu-docker.length is "", and its extents have 4096 bytes`},
	} {
		t.Run(name, func(t *testing.T) {
			m := manifestOf(c.frames...)
			_, err := snapshot.Frames(m)
			require.ErrorIs(t, err, snapshot.ErrCorrupt)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "layer "+m.Layers[len(m.Layers)-1].Digest.String())
		})
	}
	huge := manifestOf("pages-1.img 0+1 4096")
	huge.Layers[0].Size = 5 << 20
	_, err := snapshot.Frames(huge)
	require.ErrorIs(t, err, snapshot.ErrCorrupt)
	require.ErrorContains(t, err, "5242880 bytes are more than a frame can have")
}

// A frame whose content is not what its annotations say is refused before anything of it is written.
func TestFrameOfOtherLength(t *testing.T) {
	ctx := context.Background()
	st := openStore(t)
	_, m := packFirst(t, st, map[string][]byte{"inventory.img": {1}, "pages-1.img": memory(1, 4*page)}, nil)
	frames, err := snapshot.Frames(m)
	require.NoError(t, err)
	for pages, want := range map[int64]string{3: "more than the 12288 bytes that it declares", 5: "has 16384 bytes, not the 20480 that it declares"} {
		f := frames[0]
		f.Extents = []snapshot.Extent{{Length: pages * page}}
		_, release, err := snapshot.ReadFrame(ctx, st, f)
		release()
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "layer "+f.Layer.Digest.String())
	}
}

func TestUnpackChecksTotals(t *testing.T) {
	ctx := context.Background()
	st := openStore(t)
	desc, m := packFirst(t, st, map[string][]byte{"inventory.img": {1}, "pages-1.img": memory(1, 2*snapshot.FrameSize)}, nil)
	_, cfg, err := snapshot.Load(ctx, st, desc)
	require.NoError(t, err)
	missing := m
	missing.Layers = m.Layers[:len(m.Layers)-1] // the file's end
	for _, f := range []func() error{
		func() error { return snapshot.Unpack(ctx, st, missing, cfg, t.TempDir()) },
		func() error { return snapshot.UnpackFiles(ctx, st, missing, cfg, t.TempDir()) },
	} {
		err := f()
		require.ErrorIs(t, err, snapshot.ErrCorrupt)
		require.ErrorContains(t, err, "its frames have 4194304 bytes together, not the 8388608 that the config says")
	}
	m.Layers[1].MediaType = "application/vnd.criu-docker.pages.v1+zstd"
	require.ErrorContains(t, snapshot.Unpack(ctx, st, m, cfg, t.TempDir()), "does not know: update it, or build the snapshot anew")
}

func TestPackRefusesHalfAPage(t *testing.T) {
	src := source(t, map[string][]byte{"pages-1.img": make([]byte, page+1)}, nil)
	_, _, err := snapshot.Pack(context.Background(), openStore(t), src)
	require.ErrorContains(t, err, "pages-1.img has 4097 bytes, which are not whole pages")
}

// packFirst packs files of which some pages are needed first.
func packFirst(t *testing.T, st store.Store, files map[string][]byte, first []snapshot.Range) (ocispec.Descriptor, ocispec.Manifest) {
	t.Helper()
	src := source(t, files, nil)
	src.First = first
	desc, _, err := snapshot.Pack(context.Background(), st, src)
	require.NoError(t, err)
	m, err := snapshot.LoadManifest(context.Background(), st, desc)
	require.NoError(t, err)
	return desc, m
}

// manifestOf is a manifest with page frames, each "file extents length".
func manifestOf(frames ...string) ocispec.Manifest {
	var m ocispec.Manifest
	for i, f := range frames {
		part := strings.Split(f, " ")
		m.Layers = append(m.Layers, ocispec.Descriptor{
			MediaType: snapshot.MediaTypePages,
			Digest:    digest.FromString(strconv.Itoa(i)),
			Annotations: map[string]string{
				snapshot.AnnotationFile: part[0], snapshot.AnnotationExtents: part[1], snapshot.AnnotationLength: part[2],
			},
		})
	}
	return m
}

func requireFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, snapshot.CheckpointName, name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), name)
	}
}
