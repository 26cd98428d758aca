package criu

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBaselineEnvironment: what is above the level is off, and nothing that is in it.
func TestBaselineEnvironment(t *testing.T) {
	none, err := Baseline("").Environment(nil)
	require.NoError(t, err)
	require.Empty(t, none)

	for level, want := range map[Baseline]struct{ off, on []string }{
		"x86-64-v2": {off: []string{"-AVX", "-AVX_Usable", "-AVX2", "-AVX512F", "-BMI2", "-MOVBE", "-RTM"}, on: []string{"-SSE4_2", "-POPCNT", "-SSSE3"}},
		"x86-64-v3": {off: []string{"-AVX512F", "-AVX512F_Usable", "-AVX512VL", "-FMA4", "-RTM"}, on: []string{"-AVX2", "-BMI2", "-MOVBE", "-FMA"}},
		"x86-64-v4": {off: []string{"-AVX512ER", "-FMA4", "-RTM"}, on: []string{"-AVX512F", "-AVX512VL", "-AVX2"}},
	} {
		require.NoError(t, level.Validate())
		env, err := level.Environment(nil)
		require.NoError(t, err)
		_, list, found := strings.Cut(env[tunables], "glibc.cpu.hwcaps=")
		require.True(t, found)
		off := strings.Split(list, ",")
		require.Subset(t, off, want.off, level)
		for _, name := range want.on {
			require.NotContains(t, off, name, level)
		}
	}

	// Bits of the processor's answer to CPUID, as OpenSSL's manual has them: of v3, AES, AVX2 and BMI2 stay, SHA and AVX-512 go.
	env, err := Baseline("x86-64-v3").Environment(nil)
	require.NoError(t, err)
	require.Equal(t, "~0x4000080000000000:~0xfffffffffc2f0800:~0xffffffffffffffff:~0xffffffffffffffff:~0xffffffffffffffff", env[opensslCap])
}

// TestBaselineOfAnEnvironment: what the app's own environment says stays, unless it is about the same.
func TestBaselineOfAnEnvironment(t *testing.T) {
	env, err := Baseline("x86-64-v2").Environment(map[string]string{tunables: "glibc.malloc.arena_max=1"})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(env[tunables], "glibc.malloc.arena_max=1:glibc.tune.hwcaps=-"), env[tunables])

	_, err = Baseline("x86-64-v2").Environment(map[string]string{tunables: "glibc.malloc.arena_max=1:glibc.cpu.hwcaps=-AVX2"})
	require.ErrorContains(t, err, "both say which instructions glibc may use")
	_, err = Baseline("x86-64-v2").Environment(map[string]string{opensslCap: ":0"})
	require.ErrorContains(t, err, "both say which instructions OpenSSL may use")

	require.EqualError(t, Baseline("v2").Validate(), `cpu = "v2": want x86-64-v2, x86-64-v3 or x86-64-v4`)
}
