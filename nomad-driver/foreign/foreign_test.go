package foreign

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestOpenPipe(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "shadow")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	dir := t.TempDir()
	logs := filepath.Join(dir, "logs")
	require.NoError(t, os.Mkdir(logs, 0o777))
	require.NoError(t, os.Symlink(outside, filepath.Join(logs, "link")))
	require.NoError(t, os.WriteFile(filepath.Join(logs, "file"), nil, 0o600))
	require.NoError(t, unix.Mkfifo(filepath.Join(logs, "pipe"), 0o600))
	require.NoError(t, os.Symlink(logs, filepath.Join(dir, "other")))

	_, err := OpenPipe(dir, "logs/link")
	require.ErrorIs(t, err, unix.ELOOP)
	_, err = OpenPipe(dir, "other/pipe")
	require.ErrorIs(t, err, unix.ELOOP)
	_, err = OpenPipe(dir, "../"+filepath.Base(outside))
	require.ErrorIs(t, err, unix.EXDEV)
	_, err = OpenPipe(dir, "logs/file")
	require.ErrorIs(t, err, ErrKind)
	_, err = OpenPipe(dir, "logs/pipe")
	require.ErrorIs(t, err, unix.ENXIO)

	reader, err := os.OpenFile(filepath.Join(logs, "pipe"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer reader.Close()
	w, err := OpenPipe(dir, "logs/pipe")
	require.NoError(t, err)
	require.NoError(t, w.Close())
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	small, huge, pipe := filepath.Join(dir, "small"), filepath.Join(dir, "huge"), filepath.Join(dir, "pipe")
	require.NoError(t, os.WriteFile(small, []byte("1234"), 0o600))
	require.NoError(t, os.WriteFile(huge, nil, 0o600))
	require.NoError(t, os.Truncate(huge, 1<<40))
	require.NoError(t, unix.Mkfifo(pipe, 0o600))

	content, err := ReadFile(small, 4)
	require.NoError(t, err)
	require.Equal(t, "1234", string(content))
	_, err = ReadFile(small, 3)
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = ReadFile(huge, 1<<20)
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = ReadFile(pipe, 1<<20) // must not wait for a writer
	require.ErrorIs(t, err, ErrKind)
}

func TestWriteFile(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "local"), 0o777))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "other")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "local", "file")))

	require.NoError(t, WriteFile(dir, "local/file", []byte("content"), 0o644), "the link itself is replaced")
	content, err := os.ReadFile(filepath.Join(dir, "local", "file"))
	require.NoError(t, err)
	require.Equal(t, "content", string(content))
	require.ErrorIs(t, WriteFile(dir, "other/file", nil, 0o644), unix.ELOOP)
	require.ErrorIs(t, WriteFile(dir, "../file", nil, 0o644), unix.EXDEV)
	require.NoFileExists(t, filepath.Join(outside, "file"))
	left, err := os.ReadDir(filepath.Join(dir, "local"))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600))
	require.NoError(t, os.Symlink("file", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "out")))
	require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, name := range []string{"file", "link"} {
		f, err := OpenFile(dir, name)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	_, err := OpenFile(dir, "out")
	require.ErrorIs(t, err, unix.EXDEV)
	_, err = OpenFile(dir, "pipe")
	require.ErrorIs(t, err, ErrKind)
}
