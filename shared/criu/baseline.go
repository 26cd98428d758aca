package criu

import (
	"fmt"
	"slices"
	"strings"
)

// Baseline is a level of x86-64 (psABI) that an app is held to, so that what was frozen can go on with any processor that has it; "" is
// whatever the donor's processor has. Each level includes AES and PCLMULQDQ, which all servers have, and without which TLS is slow.
type Baseline string

// Baselines are the levels there are, ascending. What is below the first one has been out of use for long.
var Baselines = [...]Baseline{"x86-64-v2", "x86-64-v3", "x86-64-v4"}

// feature is what a processor may have, and how libraries are told to do without.
type feature struct {
	since   int    // level that begins to have it
	flag    string // in /proc/cpuinfo; "" if no level has it
	glibc   string // name in glibc.cpu.hwcaps; "" if glibc never uses it
	openssl int    // bit of OPENSSL_ia32cap, counted over all of its vectors; 0 if OpenSSL never uses it
}

// never is the level of what no level has.
const never = 5

// features are in the order of their levels. Bits 64 and up of OpenSSL's are the second vector's.
var features = []feature{
	{2, "aes", "", 57},
	{2, "cx16", "", 0},
	{2, "lahf_lm", "", 0},
	{2, "pclmulqdq", "", 33},
	{2, "pni", "", 32},
	{2, "popcnt", "POPCNT", 0},
	{2, "sse4_1", "SSE4_1", 51},
	{2, "sse4_2", "SSE4_2", 52},
	{2, "ssse3", "SSSE3", 41},
	{3, "abm", "LZCNT", 0},
	{3, "avx", "AVX", 60},
	{3, "avx2", "AVX2", 64 + 5},
	{3, "bmi1", "BMI1", 64 + 3},
	{3, "bmi2", "BMI2", 64 + 8},
	{3, "f16c", "", 61},
	{3, "fma", "FMA", 44},
	{3, "movbe", "MOVBE", 54},
	{3, "xsave", "", 0}, // left on: glibc saves registers by it, and CRIU needs register sets of the same size anyway
	{4, "avx512bw", "AVX512BW", 64 + 30},
	{4, "avx512cd", "AVX512CD", 64 + 28},
	{4, "avx512dq", "AVX512DQ", 64 + 17},
	{4, "avx512f", "AVX512F", 64 + 16},
	{4, "avx512vl", "AVX512VL", 64 + 31},
	{never, "", "AVX512ER", 64 + 27},
	{never, "", "AVX512PF", 64 + 26},
	{never, "", "FMA4", 0},
	{never, "", "RTM", 64 + 11},
	{never, "", "", 43},      // XOP
	{never, "", "", 62},      // RDRAND
	{never, "", "", 64 + 18}, // RDSEED
	{never, "", "", 64 + 19}, // ADX
	{never, "", "", 64 + 21}, // AVX512IFMA
	{never, "", "", 64 + 29}, // SHA
}

// Validate reports a level that there is not.
func (b Baseline) Validate() error {
	if b != "" && b.level() == 0 {
		return fmt.Errorf("cpu = %q: want %s, %s or %s", string(b), Baselines[0], Baselines[1], Baselines[2])
	}
	return nil
}

// Missing lists what a processor lacks of the level, as in /proc/cpuinfo.
func (b Baseline) Missing(here Host) (flags []string) {
	for _, f := range features {
		if _, found := slices.BinarySearch(here.CPUFeatures, f.flag); f.since <= b.level() && !found {
			flags = append(flags, f.flag)
		}
	}
	return flags
}

// The variables that glibc and OpenSSL read when a program begins.
const (
	tunables   = "GLIBC_TUNABLES"
	opensslCap = "OPENSSL_ia32cap"
)

// Environment returns the variables that keep glibc and OpenSSL from using what is above the level, by name. What else GLIBC_TUNABLES
// says in an app's own environment stays as it is; an environment that decides about the processor itself is an error.
func (b Baseline) Environment(own map[string]string) (map[string]string, error) {
	if b == "" {
		return nil, nil
	}
	if value, ok := own[opensslCap]; ok {
		return nil, fmt.Errorf("cpu = %s and the environment variable %s = %q both say which instructions OpenSSL may use: leave one of them out", b, opensslCap, value)
	}
	value := own[tunables]
	for _, name := range hwcaps {
		if strings.Contains(":"+value, ":"+name+"=") {
			return nil, fmt.Errorf("cpu = %s and the environment variable %s = %q both say which instructions glibc may use: leave %s, or cpu, out", b, tunables, value, name)
		}
		value += ":" + name + "=" + b.hwcapsOff()
	}
	return map[string]string{tunables: strings.TrimPrefix(value, ":"), opensslCap: b.opensslMask()}, nil
}

// hwcaps are the names of glibc's tunable: until 2.28, and since. Of those that it does not know it takes no notice.
var hwcaps = []string{"glibc.tune.hwcaps", "glibc.cpu.hwcaps"}

// hwcapsOff names what glibc is not to use; until 2.32, some names had a suffix.
func (b Baseline) hwcapsOff() string {
	var off []string
	for _, f := range features {
		if f.since <= b.level() || f.glibc == "" {
			continue
		}
		off = append(off, "-"+f.glibc)
		if slices.Contains([]string{"AVX", "AVX2", "AVX512DQ", "AVX512F", "FMA", "FMA4"}, f.glibc) {
			off = append(off, "-"+f.glibc+"_Usable")
		}
	}
	return strings.Join(off, ",")
}

// opensslMask clears the bits of what OpenSSL is not to use. The second half of the second vector, and the vectors after it (OpenSSL
// 3.5), have nothing that is in a level.
func (b Baseline) opensslMask() string {
	var mask [2]uint64
	mask[1] = 0xffffffff << 32
	for _, f := range features {
		if f.since > b.level() && f.openssl != 0 {
			mask[f.openssl/64] |= 1 << (f.openssl % 64)
		}
	}
	const all = ":~0xffffffffffffffff"
	return fmt.Sprintf("~%#x:~%#x", mask[0], mask[1]) + strings.Repeat(all, 3)
}

// level is the number of the level; 0 for none.
func (b Baseline) level() int {
	if i := slices.Index(Baselines[:], b); i >= 0 {
		return i + 2
	}
	return 0
}
