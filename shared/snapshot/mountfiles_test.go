package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// The files of mounts come out as they went in, and what is no archive of them is refused when it is fetched.
func TestFilesOfMounts(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		header tar.Header
		sound  bool
	}{
		"sound":            {tar.Header{Name: "data/log", Mode: 0o640}, true},
		"above its mounts": {tar.Header{Name: "data/../../etc/passwd", Mode: 0o640}, false},
		"set-user-id":      {tar.Header{Name: "data/program", Mode: 0o4755}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			c.header.Format, c.header.Size, c.header.Typeflag = tar.FormatPAX, 4, tar.TypeReg
			require.NoError(t, w.WriteHeader(&c.header))
			_, err := w.Write([]byte("line"))
			require.NoError(t, err)
			require.NoError(t, w.Close())
			src := source(t, map[string][]byte{"inventory.img": []byte("small"), "pages-1.img": memory(1, snapshot.PageSize)}, nil)
			src.MountFiles = filepath.Join(t.TempDir(), "mounts.tar")
			require.NoError(t, os.WriteFile(src.MountFiles, b.Bytes(), 0o600))
			st := openStore(t)
			desc, cfg, err := snapshot.Pack(ctx, st, src)
			require.NoError(t, err)
			require.EqualValues(t, b.Len(), cfg.Sizes.MountFiles)

			dir := t.TempDir()
			_, err = unpack(ctx, st, desc, dir)
			if !c.sound {
				require.ErrorIs(t, err, snapshot.ErrCorrupt)
				require.ErrorIs(t, snapshot.Verify(ctx, st, desc), snapshot.ErrCorrupt)
				return
			}
			require.NoError(t, err)
			require.NoError(t, snapshot.Verify(ctx, st, desc))
			got, err := os.ReadFile(filepath.Join(dir, snapshot.MountFilesName))
			require.NoError(t, err)
			require.Equal(t, b.Bytes(), got)
			m, cfg, err := snapshot.Load(ctx, st, desc)
			require.NoError(t, err)
			files, err := snapshot.LayerFiles(ctx, st, m, cfg)
			require.NoError(t, err)
			require.Len(t, files, 1)
			require.Equal(t, "/data/log", files[0].Path)
		})
	}
}
