package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRunUntilSIGILL: a clone that meets an instruction which the processor lacks says on which processor its donor was. A container
// that has booted cold has no donor.
func TestRunUntilSIGILL(t *testing.T) {
	p := newProgram(t)
	require.NoError(t, os.Mkdir(p.path("bin"), 0o755))
	flags := []string{"--restart", "no", "-v", p.path("bin") + ":/ill", "--", "/bin/busybox", "sh", "-c", "httpd -p 80 -h /www; until [ -e /ill/ill ]; do sleep 0.05; done; exec /ill/ill"}
	p.ok(p.buildArgs(append([]string{"--cpu", "x86-64-v2"}, flags...)...)...)
	require.NoError(t, os.WriteFile(p.path("bin", "ill"), illegal(t), 0o755))

	o := p.call(p.runArgs(tinyImage, append([]string{"--policy", "always", "--until", "tcp://:1"}, flags...)...)...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, "it ended with exit code 132: an instruction that this processor lacks (")
	require.Regexp(t, `the snapshot was made on .+, held to x86-64-v2: if the two differ`, o.stderr)

	o = p.call(p.runArgs(tinyImage, append([]string{"--policy", "never", "--until", "tcp://:1"}, flags...)...)...)
	require.Contains(t, o.stderr, "it ended with exit code 132")
	require.NotContains(t, o.stderr, "SIGILL")
}

// illegal is a program of one instruction, which no processor has (UD2).
func illegal(t *testing.T) []byte {
	t.Helper()
	const headers, base = 64 + 56, 0x400000
	code := []byte{0x0f, 0x0b}
	var b bytes.Buffer
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: base + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}))
	require.NoError(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: headers + 2, Memsz: headers + 2, Align: 0x1000,
	}))
	return append(b.Bytes(), code...)
}
