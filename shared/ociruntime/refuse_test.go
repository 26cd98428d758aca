package ociruntime

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestRefuse(t *testing.T) {
	c := container{run: RunDir(t.TempDir()), id: "c"}
	none, err := c.refuse(false)
	require.NoError(t, err)
	require.Nil(t, none, "another container's network")
	require.NoError(t, none.end())

	require.NoError(t, os.MkdirAll(filepath.Dir(c.netnsFile()), 0o700))
	require.NoError(t, os.WriteFile(c.netnsFile(), nil, 0o600))
	require.NoError(t, newNetns(c.netnsFile(), nil))
	t.Cleanup(func() { require.NoError(t, c.removeNetns()) })
	inside(t, c.netnsFile(), func() {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		defer udp.Close()
		connected, err := net.Dial("tcp", tcp.Addr().String())
		require.NoError(t, err)
		accepted, err := tcp.Accept()
		require.NoError(t, err)

		t0 := time.Now()
		r, err := c.refuse(false)
		t.Log("attach", time.Since(t0))
		require.NoError(t, err)
		_, err = net.Dial("tcp", tcp.Addr().String())
		require.ErrorIs(t, err, unix.ECONNREFUSED)
		u, err := net.Dial("udp", udp.LocalAddr().String())
		require.NoError(t, err)
		_, err = u.Write([]byte("x"))
		require.NoError(t, err)
		_, err = u.Read(make([]byte, 1))
		require.ErrorIs(t, err, unix.ECONNREFUSED)
		_, err = connected.Write([]byte("x"))
		require.NoError(t, err)
		_, err = accepted.Read(make([]byte, 1))
		require.NoError(t, err, "a connection that is there goes on")

		t0 = time.Now()
		require.NoError(t, r.end())
		t.Log("detach", time.Since(t0))
		again, err := net.Dial("tcp", tcp.Addr().String())
		require.NoError(t, err)
		for _, c := range []net.Conn{again, u, accepted, connected} {
			require.NoError(t, c.Close())
		}
		require.NoError(t, tcp.Close())
	})

	require.NoError(t, c.removeNetns())
	require.NoError(t, os.WriteFile(c.netnsFile(), nil, 0o600))
	require.NoError(t, unix.Mount("/proc/self/ns/net", c.netnsFile(), "", unix.MS_BIND, ""))
	none, err = c.refuse(false)
	require.NoError(t, err)
	require.Nil(t, none, "the host's network")
}

// Hooks reach the app over the loopback device while others are refused.
func TestRefuseLetsHooksThrough(t *testing.T) {
	c := container{run: RunDir(t.TempDir()), id: "c"}
	require.NoError(t, os.MkdirAll(filepath.Dir(c.netnsFile()), 0o700))
	require.NoError(t, os.WriteFile(c.netnsFile(), nil, 0o600))
	require.NoError(t, newNetns(c.netnsFile(), nil))
	t.Cleanup(func() { require.NoError(t, c.removeNetns()) })
	r, err := c.refuse(true)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.end()) }()
	inside(t, c.netnsFile(), func() {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer server.Close()
		conn, err := net.Dial("tcp", server.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	})
}

// inside calls f in a network namespace. Goroutines that f starts are not in it.
func inside(t *testing.T, netns string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := os.Open(netns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}
