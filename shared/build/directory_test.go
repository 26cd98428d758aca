package build

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// TestBuildDirectoryOfAnEarlierVersion has no marker, and nothing but work directories in it.
func TestBuildDirectoryOfAnEarlierVersion(t *testing.T) {
	for names, known := range map[[2]string]bool{
		{"build-123", "build-4"}: true, {"build-123", "build-x"}: false, {"build-123", "build"}: false, {"build-123", "src"}: false,
	} {
		dir := t.TempDir()
		for _, name := range names {
			require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		}
		_, err := kind.Make(dir)
		if known {
			require.NoError(t, err, names)
		} else {
			require.ErrorIs(t, err, owned.ErrForeign, names)
		}
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "build-5"), nil, 0o600))
	_, err := kind.Make(dir)
	require.ErrorIs(t, err, owned.ErrForeign, "a file")
}
