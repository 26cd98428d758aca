package criu

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckProfiles(t *testing.T) {
	defer func(path string) { loadedProfiles = path }(loadedProfiles)
	loadedProfiles = filepath.Join(t.TempDir(), "profiles")
	frozen := Host{Kernel: "6.18", CRIU: "4.2.1", Profiles: []string{"docker-default"}}
	require.NoError(t, CheckHost(Host{}, Host{}), "no profile needs no AppArmor")

	err := CheckHost(frozen, frozen)
	require.ErrorIs(t, err, ErrUnfit)
	require.ErrorContains(t, err, "the donor ran in the AppArmor profile docker-default, and this host has no AppArmor")

	require.NoError(t, os.WriteFile(loadedProfiles, []byte("docker-default-too (enforce)\n/usr/bin/man (enforce)\n"), 0o600))
	require.ErrorContains(t, CheckHost(frozen, frozen), "docker-default, which is not loaded on this host")

	require.NoError(t, os.WriteFile(loadedProfiles, []byte("/usr/bin/man (enforce)\ndocker-default (enforce)\n"), 0o600))
	require.NoError(t, CheckHost(frozen, frozen))
}
