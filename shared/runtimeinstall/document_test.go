package runtimeinstall

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDocumentKeepsLayout(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"empty":  {"", "{\n  \"runtimes\": {\n    \"x\": {\n      \"path\": \"/x\"\n    }\n  },\n  \"experimental\": true\n}\n"},
		"braces": {"{}\n", "{\n  \"runtimes\": {\n    \"x\": {\n      \"path\": \"/x\"\n    }\n  },\n  \"experimental\": true\n}\n"},
		"tabs and numbers": {
			"{\n\t\"mtu\": 1.40e3,\n\t\"dns\": [\"10.0.0.1\",  \"10.0.0.2\"]\n}\n",
			"{\n\t\"mtu\": 1.40e3,\n\t\"dns\": [\"10.0.0.1\",  \"10.0.0.2\"],\n\t\"runtimes\": {\n\t\t\"x\": {\n\t\t\t\"path\": \"/x\"\n\t\t}\n\t},\n\t\"experimental\": true\n}\n",
		},
		"one line": {`{"z":1,"a":2}`, `{"z":1,"a":2,"runtimes":{"x":{"path":"/x"}},"experimental":true}`},
		"other runtimes": {
			"{\n    \"runtimes\": {\n        \"nvidia\": {\"path\": \"nvidia-container-runtime\", \"runtimeArgs\": []}\n    },\n    \"experimental\": false,\n    \"log-level\": \"warn\"\n}",
			"{\n    \"runtimes\": {\n        \"nvidia\": {\"path\": \"nvidia-container-runtime\", \"runtimeArgs\": []},\n        \"x\": {\n            \"path\": \"/x\"\n        }\n    },\n    \"experimental\": true,\n    \"log-level\": \"warn\"\n}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := parseDocument([]byte(test.before))
			require.NoError(t, err)
			require.NoError(t, d.set(map[string]string{"path": "/x"}, "runtimes", "x"))
			require.NoError(t, d.set(true, "experimental"))
			require.Equal(t, test.after, string(d.bytes()))
			require.Equal(t, `{"path":"/x"}`, d.get("runtimes", "x"))
			require.Equal(t, "true", d.get("experimental"))
			require.Empty(t, d.get("runtimes", "x", "path", "more"))
		})
	}
}

func TestDocumentRemove(t *testing.T) {
	d, err := parseDocument([]byte("{\n  \"a\": {\n    \"b\": 1\n  },\n  \"c\": 2\n}\n"))
	require.NoError(t, err)
	d.remove("a", "x")
	d.remove("c", "x")
	d.remove("x", "y")
	d.remove("a", "b")
	require.Equal(t, "{\n  \"a\": {},\n  \"c\": 2\n}\n", string(d.bytes()))
	d.remove("c")
	d.remove("a")
	require.True(t, d.empty())
	require.Equal(t, "{}\n", string(d.bytes()))
}

func TestDocumentRefuses(t *testing.T) {
	for content, want := range map[string]string{
		"[]":                            "not a JSON object",
		"{":                             "invalid JSON",
		"{\"a\": 1,}":                   "trailing commas",
		"{// why\n\"a\": 1}":            "comments",
		"{\"a\": 1, \"a\": 2}":          `"a" occurs twice`,
		"{\"r\": {\"b\": 1, \"b\": 2}}": `r: "b" occurs twice`,
	} {
		_, err := parseDocument([]byte(content))
		require.ErrorContains(t, err, want, content)
	}
	d, err := parseDocument([]byte(`{"runtimes": 7}`))
	require.NoError(t, err)
	require.ErrorContains(t, d.set(1, "runtimes", "x"), "want an object")
}
