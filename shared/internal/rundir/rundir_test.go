package rundir

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// TestModes: what the host is may be read by anybody, and nothing else, whichever of our processes comes first.
func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	d, err := Make(path)
	require.NoError(t, err)
	sub, err := d.Sub("containers", "c")
	require.NoError(t, err)
	for dir, mode := range map[string]fs.FileMode{path: 0o711, filepath.Dir(sub): 0o700, sub: 0o700} {
		fi, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, mode, fi.Mode().Perm(), dir)
	}
}

// TestRunDirectoryOfAnEarlierVersion: clones that run while the runtime is updated must not lose it.
func TestRunDirectoryOfAnEarlierVersion(t *testing.T) {
	path := t.TempDir()
	for _, sub := range []string{"containers", "netns", "shim"} {
		require.NoError(t, os.Mkdir(filepath.Join(path, sub), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(path, HostFile), nil, 0o644))
	_, err := Make(path)
	require.NoError(t, err)

	other := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(other, "containerd"), 0o700))
	_, err = Make(other)
	require.ErrorIs(t, err, owned.ErrForeign)
}
