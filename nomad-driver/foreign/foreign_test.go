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
