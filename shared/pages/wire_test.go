package pages

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pipe returns both ends of a connection.
func pipe(t *testing.T) (*Conn, *Conn) {
	a, f, err := Pipe()
	require.NoError(t, err)
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	b := NewConn(fd)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	return a, b
}

func TestMessages(t *testing.T) {
	a, b := pipe(t)
	sent := Message{Kind: KindTask, Task: 7}
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, a.Send(sent, int(w.Fd())))
	require.NoError(t, w.Close())
	got, fd, err := b.Receive()
	require.NoError(t, err)
	require.Equal(t, sent, got)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.Equal(t, unix.FD_CLOEXEC, flags)
	_, err = unix.Write(fd, []byte("x"))
	require.NoError(t, err)
	require.NoError(t, unix.Close(fd))
	read, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "x", string(read))

	require.NoError(t, b.Send(Message{Kind: KindDone}, -1))
	got, fd, err = a.Receive()
	require.NoError(t, err)
	require.Equal(t, Message{Kind: KindDone}, got)
	require.Equal(t, -1, fd)

	// A long error is cut, one that JSON writes at length as well.
	for _, text := range []string{strings.Repeat("long ", 10000), strings.Repeat("\x01", 10000)} {
		require.NoError(t, b.Send(Message{Kind: KindFailed, Error: text}, -1))
		got, _, err = a.Receive()
		require.NoError(t, err)
		require.Equal(t, text[:len(got.Error)], got.Error)
		require.Greater(t, len(got.Error), 1000)
	}
}

func TestUnfitMessages(t *testing.T) {
	a, b := pipe(t)
	require.NoError(t, a.Send(Message{Kind: KindTask, Task: 7}, -1))
	_, _, err := b.Receive()
	require.ErrorContains(t, err, "brings no descriptor")

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	require.NoError(t, unix.Sendmsg(a.fd, []byte("no JSON"), unix.UnixRights(int(w.Fd())), nil, 0))
	require.NoError(t, w.Close())
	_, fd, err := b.Receive()
	require.ErrorContains(t, err, "invalid character")
	require.Equal(t, -1, fd)
	_, err = io.ReadAll(r) // ends when nobody has the other end
	require.NoError(t, err)
}

func TestOtherEndGone(t *testing.T) {
	t.Run("while it waits", func(t *testing.T) {
		a, b := pipe(t)
		ended := make(chan error, 1)
		go func() {
			_, _, err := b.Receive()
			ended <- err
		}()
		a.Close()
		require.ErrorIs(t, <-ended, io.EOF)
		require.ErrorIs(t, b.Send(Message{Kind: KindDone}, -1), unix.EPIPE)
	})
	t.Run("with words unread", func(t *testing.T) {
		a, b := pipe(t)
		require.NoError(t, b.Send(Message{Kind: KindDone}, -1))
		a.Close()
		_, _, err := b.Receive()
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("its words are still heard", func(t *testing.T) {
		a, b := pipe(t)
		require.NoError(t, a.Send(Message{Kind: KindReleased}, -1))
		a.Close()
		m, _, err := b.Receive()
		require.NoError(t, err)
		require.Equal(t, KindReleased, m.Kind)
		_, _, err = b.Receive()
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("closed here", func(t *testing.T) {
		_, b := pipe(t)
		ended := make(chan error, 1)
		go func() {
			_, _, err := b.Receive()
			ended <- err
		}()
		b.closeRead()
		require.ErrorIs(t, <-ended, io.EOF)
		require.NoError(t, b.Send(Message{Kind: KindDone}, -1), "which still can be told")
	})
}
