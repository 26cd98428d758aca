package doctor

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// listenEnv names the socket at which the test's own binary listens as an engine would.
const listenEnv = "DOCTOR_TEST_LISTEN"

// TestEngineCapabilities: the engine is judged by what the process that listens at its socket may do.
func TestEngineCapabilities(t *testing.T) {
	engine := func(t *testing.T, wrap ...string) Check {
		t.Helper()
		socket := filepath.Join(t.TempDir(), "docker.sock")
		args := append(wrap, os.Args[0])
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), listenEnv+"="+socket)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		_, err = out.Read(make([]byte, 1)) // it listens
		require.NoError(t, err)
		return engineCapabilities("unix://" + socket)
	}
	less := engine(t, "setpriv", "--bounding-set=-sys_ptrace,-sys_resource", "--inh-caps=-all", "--")
	require.Equal(t, Fail, less.Status, less)
	require.Contains(t, less.Found, "CAP_SYS_PTRACE")
	require.Contains(t, less.Found, "CAP_SYS_RESOURCE")
	require.NotContains(t, less.Found, "CAP_SYS_ADMIN")

	less = engine(t, "setpriv", "--bounding-set=-sys_resource", "--inh-caps=-all", "--")
	require.Equal(t, Warn, less.Status, less)
	require.Equal(t, "no CAP_SYS_RESOURCE", less.Found)
	require.Contains(t, less.Remedy, "CapabilityBoundingSet")

	require.NotEqual(t, Fail, engine(t).Status, "root's usual set")
	require.Equal(t, OK, Check{}.judge(nil, nil, "x").Status)
	require.Equal(t, Warn, engineCapabilities("unix:///nowhere/docker.sock").Status)
}

// listenAsEngine is the engine of the test above.
func listenAsEngine(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("."); err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
	}
}
