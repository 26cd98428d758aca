package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
)

// TestCloneThatSIGILLEnds: a clone that meets an instruction which the processor lacks says so in the task's events.
func TestCloneThatSIGILLEnds(t *testing.T) {
	const script = "echo booted; until [ -e /local/ill ]; do sleep 0.05; done; exec /local/ill"
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }", dir))
	publishSnapshot(t, b.engine, dir, container.Config{Image: tiny, Cmd: []string{"/bin/sh", "-c", script}}, build.Probe{Type: build.ProbeLog, Pattern: "booted"})
	task := b.task(fmt.Sprintf(`
		image    = "tiny:lab"
		command  = "/bin/sh"
		args     = ["-c", %q]
		snapshot { policy = "always" }`, script))
	b.start(task)
	require.NoError(t, os.WriteFile(filepath.Join(task.TaskDir().LocalDir, "ill"), illegal(t), 0o755))
	e := b.event("Ended: ")
	require.Contains(t, e.Message, "an instruction that this processor lacks (")
	require.Contains(t, e.Message, "build it with a baseline")
	result := b.wait(task.ID)
	require.Equal(t, 128+int(syscall.SIGILL), result.ExitCode)
	require.EqualError(t, result.Err, e.Annotations["ended"])
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
