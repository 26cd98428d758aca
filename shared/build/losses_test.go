package build

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

func TestLostListenerOptions(t *testing.T) {
	listen := func(set func(fd int) error) int {
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
			var serr error
			if err := c.Control(func(fd uintptr) { serr = set(int(fd)) }); err != nil {
				return err
			}
			return serr
		}}
		config.SetMultipathTCP(false)
		l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l.Addr().(*net.TCPAddr).Port
	}
	listen(func(int) error { return nil })
	got, err := lostOptions([]int{os.Getpid()})
	require.NoError(t, err)
	require.Empty(t, got, "a plain listener loses nothing")

	port := listen(func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000)
	})
	got, err = lostOptions([]int{os.Getpid(), 1 << 30})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Contains(t, got[0], "TCP_DEFER_ACCEPT, TCP_USER_TIMEOUT")
	require.Contains(t, got[0], strconv.Itoa(port))
}

func TestMulticastGroups(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "igmp"), []byte(`Idx	Device    : Count Querier	Group    Users Timer	Reporter
1	lo        :     1      V3
				010000E0     1 0:00000000		0
2	eth0      :     2      V3
				030201EF     1 0:00000000		0
				010000E0     1 0:00000000		0
`), 0o600))
	got, err := multicastGroups(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"239.1.2.3"}, got, "a kernel without IPv6")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "igmp6"), []byte(`1    lo              ff020000000000000000000000000001     1 0000000C 0
2    eth0            ff0200000000000000000001ff000002     1 00000004 0
2    eth0            ff050000000000000000000000001234     1 00000004 0
2    eth0            ff010000000000000000000000000001     1 00000008 0
`), 0o600))
	got, err = multicastGroups(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"239.1.2.3", "ff05::1234"}, got)

	// As this kernel writes it.
	loopback, err := net.InterfaceByIndex(1)
	require.NoError(t, err)
	c, err := net.ListenMulticastUDP("udp4", loopback, &net.UDPAddr{IP: net.IPv4(239, 9, 8, 7)})
	require.NoError(t, err)
	defer c.Close()
	got, err = lostGroups(os.Getpid())
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Contains(t, got[0], "239.9.8.7")
}

func TestUnboundSockets(t *testing.T) {
	sockets := []criu.Socket{
		{Protocol: "unix", Source: "/run/plain"},
		{Protocol: "unix", Source: "/run/x.1"},
		{Protocol: "unix", Source: "relative.sock"},
		{Protocol: "tcp", Source: "/run/tcp"},
		{Protocol: "unix"},
	}
	require.Empty(t, unboundSockets([]string{"/run/plain", "/srv/relative.sock"}, sockets))
	got := unboundSockets([]string{"/run/plain", "/run/linked", "/run/tcp"}, sockets)
	require.Len(t, got, 2)
	require.Contains(t, got[0], "/run/linked")
}

func TestSpinningFIFOs(t *testing.T) {
	unwritten := []string{"/run/initctl"}
	got := spinningFIFOs(unwritten, "4.2.1")
	require.Len(t, got, 1)
	require.Contains(t, got[0], "/run/initctl")
	require.Empty(t, spinningFIFOs(unwritten, "4.3"))
	require.Empty(t, spinningFIFOs(nil, "4.2.1"))
}

func TestLostOfLayer(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "var/lib"), 0o755))
	for name, size := range map[string]int64{"var/lib/map": 1 << 30, "small": largestHoles, "var/lib/full": 0} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("in use"), 0o600))
		if size > 0 {
			require.NoError(t, os.Truncate(filepath.Join(dir, name), size))
		}
	}
	for _, name := range []string{"small", "var/lib"} {
		require.NoError(t, unix.Setxattr(filepath.Join(dir, name), "user.note", []byte("x"), 0))
	}
	require.NoError(t, unix.Setxattr(filepath.Join(dir, "var"), "trusted.overlay.opaque", []byte("y"), 0))
	warnings, err := lostOfLayer(dir)
	require.NoError(t, err)
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0], "/var/lib/map has 1073741824 bytes, of which ")
	require.Contains(t, warnings[1], " of /small, /var/lib; ")
}
