package logs

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// frame is a message as the engine sends it.
func frame(stream byte, message string) []byte {
	header := []byte{stream, 0, 0, 0}
	return append(binary.BigEndian.AppendUint32(header, uint32(len(message))), message...)
}

func newPosition(t *testing.T) *position {
	t.Helper()
	pos, err := openPosition(filepath.Join(t.TempDir(), "position"))
	require.NoError(t, err)
	t.Cleanup(func() { pos.file.Close() })
	return pos
}

func TestFramesAreSplitByStream(t *testing.T) {
	in := bytes.Join([][]byte{
		frame(streamStdout, "2026-11-23T20:00:00.1Z one\n"),
		frame(streamStderr, "2026-11-23T20:00:00.25Z two  words\n"),
		frame(streamStdout, "2026-11-23T20:00:00.000000003Z \n"),
	}, nil)
	var stdout, stderr bytes.Buffer
	pos := newPosition(t)
	require.NoError(t, copyFrames(bytes.NewReader(in), &stdout, &stderr, pos))
	require.Equal(t, "one\n\n", stdout.String())
	require.Equal(t, "two  words\n", stderr.String())
	at, err := pos.get()
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 11, 23, 20, 0, 0, 3, time.UTC), at)
}

func TestFramesThatAreNone(t *testing.T) {
	huge := frame(streamStdout, "")
	binary.BigEndian.PutUint32(huge[4:], maxFrame+1)
	for name, c := range map[string]struct {
		in   []byte
		says string
	}{
		"error of the engine": {frame(streamSystem, "disk on fire"), "the engine says: disk on fire"},
		"too long":            {huge, "a log message of 1048577 bytes"},
		"cut off":             {frame(streamStdout, "2026-11-23T20:00:00Z cut")[:20], io.ErrUnexpectedEOF.Error()},
		"cut off header":      {frame(streamStdout, "")[:5], io.ErrUnexpectedEOF.Error()},
		"no time":             {frame(streamStdout, "hello"), "has no time stamp"},
		"not a time":          {frame(streamStdout, "hello world"), "log message: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := copyFrames(bytes.NewReader(c.in), io.Discard, io.Discard, newPosition(t))
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestPosition(t *testing.T) {
	pos := newPosition(t)
	at, err := pos.get()
	require.NoError(t, err)
	require.True(t, at.IsZero())
	for _, at := range []time.Time{time.Date(2026, 1, 1, 0, 0, 0, 999999999, time.UTC), time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)} {
		require.NoError(t, pos.set(at))
		got, err := pos.get()
		require.NoError(t, err)
		require.Equal(t, at, got)
	}
}

func TestLockHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	pid, err := lockHolder(path)
	require.NoError(t, err)
	require.Zero(t, pid, "nobody has begun")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	pid, err = lockHolder(path)
	require.NoError(t, err)
	require.Zero(t, pid, "whoever held it has ended")
}

// The agent that reads the logs may be restarted: what it did not read goes to the next reader.
func TestPipeGoesOnWithTheNextReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	first, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := openPipe(ctx, path)
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Write([]byte("one\n"))
	require.NoError(t, err)
	require.Equal(t, "one\n", read(t, first, 4))
	require.NoError(t, first.Close())

	written := make(chan error, 1)
	go func() {
		_, err := p.Write([]byte("two\n"))
		written <- err
	}()
	second, err := os.OpenFile(path, os.O_RDONLY, 0)
	require.NoError(t, err)
	defer second.Close()
	require.NoError(t, <-written)
	require.Equal(t, "two\n", read(t, second, 4))
}

// A reader that does not read, or none at all, does not keep the forwarder from ending.
func TestPipeEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, unix.Mkfifo(path, 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := openPipe(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	defer reader.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p, err := openPipe(ctx, path)
	require.NoError(t, err)
	defer p.Close()
	_, err = p.Write([]byte(strings.Repeat("x", 1<<20)))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// read reads n bytes from a pipe.
func read(t *testing.T, f *os.File, n int) string {
	t.Helper()
	require.NoError(t, f.SetReadDeadline(time.Now().Add(time.Minute)))
	b := make([]byte, n)
	_, err := io.ReadFull(f, b)
	require.NoError(t, err)
	return string(b)
}
