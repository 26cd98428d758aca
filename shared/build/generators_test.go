package build

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGenerators(t *testing.T) {
	require.Empty(t, generatorsOf([]int{os.Getpid(), 1 << 30}), "this program has none of them, and the other process is none")
	for file, want := range map[string]string{
		"libcrypto.so.3": "OpenSSL", "libjvm.so": "Java", "node": "Node.js", "libnode.so.115": "Node.js", "ruby3.1": "Ruby",
		"libruby-3.3.so.3.3.8": "Ruby", "python3.13": "Python", "libpython3.13.so.1.0": "Python", "php8.4": "PHP", "php-fpm8.4": "PHP",
		"beam.smp": "Erlang", "libluajit-5.1.so.2.1.0": "Lua", "luajit-2.1.1753364724": "Lua", "lua5.4": "Lua", "nginx": "nginx", "busybox": "", "libcrypt.so.1": "",
		"nodes": "", "python-helper": "",
	} {
		got := ""
		for _, g := range generators {
			if g.files.MatchString(file) {
				require.Empty(t, got, file)
				got = g.name
			}
		}
		require.Equal(t, want, got, file)
	}
	require.Empty(t, sharedRandomness([]string{"Ruby"}, 1))
	require.Empty(t, sharedRandomness(nil, 0))
	require.Contains(t, sharedRandomness([]string{"OpenSSL", "Ruby"}, 0)[0], "OpenSSL, Ruby: all clones give out the same")
}
