//go:build criu

// This test builds CRIU on the distributions that lack a new one. make test-criu runs it.

package criu

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuild(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), suite)
			mirror := os.Getenv("LAB_MIRROR")
			if mirror == "" {
				mirror = "http://deb.debian.org/debian"
			}
			within(t, "debootstrap", "--variant=minbase", suite, root, mirror)
			script, err := os.ReadFile("build.sh")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(root, "build.sh"), script, 0o755))
			require.NoError(t, os.Mkdir(filepath.Join(root, "packages"), 0o755))
			within(t, "chroot", root, "sh", "-ec", "mount -t proc proc /proc; DEBIAN_MIRROR="+mirror+" /build.sh /packages")
			require.Contains(t, within(t, "chroot", root, "sh", "-ec", "apt-get -qqy install /packages/criu_*.deb >&2; criu --version"), "Version: 4.")
		})
	}
}

// within runs a program in a mount namespace of its own, so that no mount of it outlives the test.
func within(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "--pid", "--fork", "--propagation", "private", "--"}, argv...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
