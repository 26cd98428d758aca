package criu

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHostInfo(t *testing.T) {
	ctx := context.Background()
	cache := filepath.Join(t.TempDir(), "run", "host.json")
	path, err := exec.LookPath("criu")
	require.NoError(t, err)

	host, err := hostInfo(ctx, path, cache)
	require.NoError(t, err)
	require.False(t, Older(host.CRIU, MinVersion), host.CRIU)
	require.NotEmpty(t, host.Kernel)
	require.NotEmpty(t, host.CPUModel)
	require.Contains(t, host.CPUFeatures, "sse2")
	require.True(t, slices.IsSorted(host.CPUFeatures))
	require.GreaterOrEqual(t, host.XSaveSize, uint32(512+64), "legacy region and header are always there")
	require.GreaterOrEqual(t, host.XSaveMax, host.XSaveSize)
	require.Equal(t, uint64(1), host.CPUXFeatures&1, "x87 is always there")
	require.NoError(t, CheckHost(host, host))

	again, err := hostInfo(ctx, path, cache)
	require.NoError(t, err)
	require.Equal(t, host, again)
	require.NoError(t, Check(ctx, path))
}

func TestHostCache(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	cache := filepath.Join(dir, "run", "host.json")
	// Not criu, but something whose runs can be counted.
	path := filepath.Join(dir, "criu")
	script := "#!/bin/sh\necho run >> " + dir + "/runs\ncase $1 in --version) echo 'Version: 9.8.7'; echo 'GitID: x';; cpuinfo) cp " + dir + "/cpuinfo.img $4/;; esac\n"
	require.NoError(t, os.WriteFile(path, []byte(script), 0o755))
	image, err := os.ReadFile("testdata/cpuinfo.img")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cpuinfo.img"), image, 0o600))
	runs := func() int {
		b, err := os.ReadFile(filepath.Join(dir, "runs"))
		require.NoError(t, err)
		return strings.Count(string(b), "run")
	}

	host, err := hostInfo(ctx, path, cache)
	require.NoError(t, err)
	require.Equal(t, "9.8.7", host.CRIU)
	require.Equal(t, uint32(2432), host.XSaveSize)
	require.Equal(t, uint64(0xe5), host.CPUXFeatures)
	asked := runs()
	_, err = hostInfo(ctx, path, cache)
	require.NoError(t, err)
	require.Equal(t, asked, runs(), "the second answer comes from the cache")

	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(script, "9.8.7", "9.8.17")), 0o755))
	host, err = hostInfo(ctx, path, cache)
	require.NoError(t, err)
	require.Equal(t, "9.8.17", host.CRIU, "another binary is asked anew")

	for _, broken := range []string{"", "{", `{"format":99}`} {
		asked = runs()
		require.NoError(t, os.WriteFile(cache, []byte(broken), 0o600))
		_, err = hostInfo(ctx, path, cache)
		require.NoError(t, err)
		require.Greater(t, runs(), asked, broken)
	}
	_, err = hostInfo(ctx, path, filepath.Join(path, "no", "directory", "host.json"))
	require.NoError(t, err, "a cache that can't be written is done without")

	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho broken >&2; exit 3\n"), 0o755))
	_, err = hostInfo(ctx, path, cache)
	require.ErrorContains(t, err, "broken")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\necho 1.0\n"), 0o755))
	_, err = hostInfo(ctx, path, cache)
	require.ErrorContains(t, err, "Version: …")
	_, err = hostInfo(ctx, filepath.Join(dir, "gone"), cache)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestHostJSON(t *testing.T) {
	b, err := json.Marshal(Host{Kernel: "6.1", CRIU: "4.2", CPUModel: "m", CPUFeatures: []string{"avx"}, XSaveSize: 832})
	require.NoError(t, err)
	require.JSONEq(t, `{"kernel":"6.1","criu":"4.2","cpu_model":"m","cpu_features":["avx"],"xsave_size":832}`, string(b))
}

func TestCheckHost(t *testing.T) {
	v2 := []string{"aes", "cx16", "lahf_lm", "pclmulqdq", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"}
	frozen := Host{
		Kernel: "6.12.3-cloud-amd64", CRIU: "4.2.1", CPUModel: "EPYC 1",
		CPUFeatures: []string{"avx", "avx2", "erms", "fsrm", "ibrs", "sse2"}, CPUXFeatures: 7, XSaveSize: 832, XSaveMax: 832,
	}
	for name, test := range map[string]struct {
		change func(*Host)
		want   string // "" means that it fits
	}{
		"same":                 {func(*Host) {}, ""},
		"newer CRIU":           {func(h *Host) { h.CRIU = "4.10" }, ""},
		"older CRIU":           {func(h *Host) { h.CRIU = "4.2" }, "CRIU 4.2.1 made the snapshot, and this host has 4.2"},
		"newer kernel":         {func(h *Host) { h.Kernel = "7.0" }, ""},
		"older patch":          {func(h *Host) { h.Kernel = "6.12.1" }, ""},
		"older kernel":         {func(h *Host) { h.Kernel = "6.9.14" }, "made on Linux 6.12.3-cloud-amd64, and this host has 6.9.14"},
		"more features":        {func(h *Host) { h.CPUFeatures = []string{"aes", "avx", "avx2", "sse2"} }, ""},
		"slow strings":         {func(h *Host) { h.CPUFeatures = []string{"avx", "avx2", "ibrs", "sse2"} }, ""},
		"fewer features":       {func(h *Host) { h.CPUFeatures = []string{"ibrs", "sse2"} }, "lacks features of the one that the snapshot was made on (EPYC 1): avx, avx2"},
		"fewer register sets":  {func(h *Host) { h.CPUXFeatures = 3 }, "XCR0 bits 0x4"},
		"more register sets":   {func(h *Host) { h.CPUXFeatures = 15 }, ""},
		"another size":         {func(h *Host) { h.XSaveSize = 2432 }, "saves 2432 bytes of registers (xsave), the one that the snapshot was made on (EPYC 1) 832"},
		"another maximum":      {func(h *Host) { h.XSaveMax = 2432 }, "has 2432 bytes"},
		"unknown sizes":        {func(h *Host) { h.XSaveSize, h.XSaveMax, h.CPUXFeatures = 0, 0, 0 }, ""},
		"held to v2":           {func(h *Host) { h.CPUFeatures = v2 }, ""},
		"less than v2":         {func(h *Host) { h.CPUFeatures = v2[1:] }, "lacks features of x86-64-v2, which the app in the snapshot was held to: aes"},
		"held to v2, not size": {func(h *Host) { h.CPUFeatures, h.XSaveSize = v2, 576 }, "saves 576 bytes"},
		"unknown CRIU version": {func(h *Host) { h.CRIU = "" }, "CRIU 4.2.1 made"},
	} {
		t.Run(name, func(t *testing.T) {
			here, frozen := frozen, frozen
			test.change(&here)
			if strings.Contains(name, "v2") {
				frozen.CPUBaseline = "x86-64-v2"
			}
			err := CheckHost(frozen, here)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrUnfit)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestOlder(t *testing.T) {
	for _, pair := range [][2]string{
		{"4.1.1", "4.2"}, {"4.2", "4.2.1"}, {"4.9", "4.10"}, {"", "1"}, {"6.1.0-18-amd64", "6.18"}, {"28.5.2+dfsg4", "29"}, {"v1.3.6+ds1", "v1.4.0"},
	} {
		require.True(t, Older(pair[0], pair[1]), pair)
		require.False(t, Older(pair[1], pair[0]), pair)
		require.False(t, Older(pair[0], pair[0]), pair)
	}
}

func TestReadCPURefuses(t *testing.T) {
	info := filepath.Join(t.TempDir(), "cpuinfo")
	require.NoError(t, os.WriteFile(info, []byte("processor\t: 0\nFeatures\t: fp asimd\n"), 0o600))
	require.ErrorContains(t, readCPU(info, "testdata/cpuinfo.img", &Host{}), "no flags")
	require.NoError(t, os.WriteFile(info, []byte("flags\t: sse2 avx\n"), 0o600))
	require.ErrorContains(t, readCPU(info, "testdata/checkpoint/files.img", &Host{}), "files.img")
	require.ErrorIs(t, readCPU(info, "gone.img", &Host{}), os.ErrNotExist)
}
