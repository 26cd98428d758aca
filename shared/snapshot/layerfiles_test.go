package snapshot

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListTar(t *testing.T) {
	file := tar.Header{Name: "srv/log", Mode: 0o640, Uid: 5, Gid: 6, Size: 3}
	entries := []tar.Header{
		{Name: "srv/", Typeflag: tar.TypeDir, Mode: 0o755},
		file,
		{Name: "srv/link", Typeflag: tar.TypeSymlink, Linkname: "log", Mode: 0o777},
		{Name: "srv/.wh.gone"},
		{Name: "srv/.wh..wh..opq"},
		{Name: "../../etc/passwd"},
	}
	got, err := listTar(tarOf(t, entries...), 3, maxListing)
	require.NoError(t, err)
	require.Len(t, got, len(entries))
	for i := range got {
		if got[i].Content != "" {
			require.NoError(t, got[i].Content.Validate())
		}
	}
	log := got[1]
	require.Equal(t, LayerFile{Path: "/srv/log", Mode: 0o640, UID: 5, GID: 6, Size: 3, Content: log.Content}, log)
	require.Equal(t, "/srv", got[0].Path)
	require.True(t, got[0].Mode.IsDir())
	require.Equal(t, "log", got[2].Target)
	require.Equal(t, fs.ModeSymlink, got[2].Mode.Type())
	require.Equal(t, LayerFile{Path: "/srv/gone", Deleted: true}, got[3])
	require.Equal(t, LayerFile{Path: "/srv", Opaque: true}, got[4])
	require.Equal(t, "/etc/passwd", got[5].Path, "no path leads out of the container")

	capable := file
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01"}
	got, err = listTar(tarOf(t, capable), 3, maxListing)
	require.NoError(t, err)
	require.NotEqual(t, log.Content, got[0].Content, "a capability is a change")
}

func TestListTarRefuses(t *testing.T) {
	file := tar.Header{Name: "log", Mode: 0o640, Size: 3}
	_, err := listTar(tarOf(t, file), 2, maxListing)
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, "more bytes than the config says")
	_, err = listTar(tarOf(t, tar.Header{Name: "log", Size: 2}, tar.Header{Name: strings.Repeat("x", 1000)}), 2, 1000)
	require.ErrorContains(t, err, "too many files")
	_, err = listTar(strings.NewReader(strings.Repeat("no tar", 200)), 2, maxListing)
	require.ErrorIs(t, err, ErrCorrupt)
	whole := tarOf(t, file).Bytes()
	_, err = listTar(bytes.NewReader(whole[:513]), 3, maxListing)
	require.ErrorIs(t, err, ErrCorrupt)
}

// tarOf makes a tar whose files hold zeros.
func tarOf(t *testing.T, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		require.NoError(t, w.WriteHeader(&h))
		_, err := w.Write(make([]byte, h.Size))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &b
}
