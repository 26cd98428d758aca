package pages

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFirst(t *testing.T) {
	dir := t.TempDir()
	list, err := ReadFirst(dir)
	require.NoError(t, err)
	require.Nil(t, list, "a snapshot without a profile")

	want := []Range{{"pages-1.img", 3 * pageSize, 2 * pageSize}, {"pages-2.img", 0, pageSize}}
	require.NoError(t, WriteFirst(dir, want))
	list, err = ReadFirst(dir)
	require.NoError(t, err)
	require.Equal(t, want, list)

	require.NoError(t, os.WriteFile(filepath.Join(dir, firstName), []byte("pages-1.img 4096\n"), 0o600))
	_, err = ReadFirst(dir)
	require.ErrorContains(t, err, `"pages-1.img 4096" is no range of pages`)
}

func TestClusters(t *testing.T) {
	at := func(page, pages int64) Range { return Range{"pages-1.img", page * pageSize, pages * pageSize} }
	require.Empty(t, clusters(nil, pageSize))
	require.Equal(t, []Range{at(90, 1), at(10, 7), at(40, 1), {"pages-2.img", 12 * pageSize, pageSize}}, clusters([]Range{
		at(90, 1), at(14, 1), at(40, 1), at(10, 3), at(16, 1), {"pages-2.img", 12 * pageSize, pageSize},
	}, pageSize))
	require.Equal(t, []Range{at(1, 4)}, clusters([]Range{at(1, 4), at(2, 1), at(4, 1)}, 0), "one within another")
}
