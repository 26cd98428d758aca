package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/stretchr/testify/require"
)

// The tasks of a group write the same hosts file, one after the other; each adds what is not there.
func TestHostsOfAGroup(t *testing.T) {
	cfg := &drivers.TaskConfig{NetworkIsolation: &drivers.NetworkIsolationSpec{
		HostsConfig: &drivers.HostsConfig{Address: "172.26.64.2", Hostname: "shop"},
	}}
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte("127.0.0.1\tlocalhost"), 0o600)) // without an end of line
	for _, extra := range [][]string{{"db:10.0.0.2"}, {"db:10.0.0.2", "six:2001:db8::7"}, nil} {
		require.NoError(t, addLines(file, hostsLines(cfg, &taskConfig{ExtraHosts: extra})))
	}
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1\tlocalhost\n172.26.64.2 shop\n10.0.0.2 db\n2001:db8::7 six\n", string(content))
}
