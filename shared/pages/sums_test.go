package pages

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDamageIsFoundAndCondemnsTheCheckpoint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoint")
	require.NoError(t, os.Mkdir(dir, 0o700))
	image := make([]byte, 300*pageSize)
	for i := range image {
		image[i] = byte(i / pageSize)
	}
	for name, content := range map[string][]byte{"pages-1.img": image, "core-1.img": image[:5000], "utsns-1.img": image[:10], "empty": nil} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	nobodys := func(string) bool { return false }
	require.NoError(t, Check(dir, false, nobodys), "there are no checksums yet")
	require.NoError(t, WriteSums(dir))
	require.NoError(t, Check(dir, false, nobodys))
	clone := filepath.Join(filepath.Dir(dir), "clone")
	require.NoError(t, os.Mkdir(clone, 0o700))
	require.NoError(t, os.Link(filepath.Join(dir, SumsName), filepath.Join(clone, SumsName)))

	damage := func(name string, at int64) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{0xff}, at)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	damage("utsns-1.img", 3)
	require.NoError(t, Check(dir, false, func(name string) bool { return name == "utsns-1.img" }), "a clone's own")

	s, err := readSums(dir)
	require.NoError(t, err)
	require.NoError(t, s.check("pages-1.img", 256*pageSize, image[256*pageSize:260*pageSize]))
	require.ErrorIs(t, s.check("pages-1.img", 300*pageSize, image[:pageSize]), ErrRotten, "beyond its end")
	require.NoError(t, WriteSums(dir))
	damage("pages-1.img", 299*pageSize+7)
	err = Check(dir, false, nobodys)
	require.ErrorIs(t, err, ErrRotten)
	require.ErrorContains(t, err, "pages-1.img at 1224704")
	require.ErrorIs(t, Check(dir, false, nobodys), ErrRotten, "for ever")

	require.ErrorIs(t, s.check("core-1.img", 4096, []byte("else")), ErrRotten)
	require.NoError(t, s.check("pagemap-1.img", 0, []byte("else")), "nobody knows")
}

func BenchmarkCheck(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "checkpoint")
	require.NoError(b, os.Mkdir(dir, 0o700))
	page := make([]byte, 8*pageSize)
	require.NoError(b, os.WriteFile(filepath.Join(dir, "pages-1.img"), page, 0o600))
	require.NoError(b, WriteSums(dir))
	s, err := readSums(dir)
	require.NoError(b, err)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		if err := s.check("pages-1.img", 0, page); err != nil {
			b.Fatal(err)
		}
	}
}
