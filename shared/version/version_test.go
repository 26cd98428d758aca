package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	released := &debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0676d42"}, {Key: "vcs.time", Value: "2026-11-27T05:52:12Z"}, {Key: "vcs.modified", Value: "false"},
	}}
	info := Of(released)
	require.Equal(t, Info{Version: "1.2.3", Revision: "0676d42", Date: "2026-11-27T05:52:12Z", Go: "go1.26.8"}, info)
	require.Equal(t, "1.2.3 0676d42 2026-11-27T05:52:12Z go1.26.8", info.Line())
	require.Equal(t, "1.2.3", info.Semantic())

	for _, unknown := range []string{"", "(devel)"} {
		info := Of(&debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: unknown}})
		require.Equal(t, "dev go1.26.8", info.Line())
		require.Equal(t, "0.0.0-dev", info.Semantic())
	}
	require.NotEmpty(t, Get().Go)
}
