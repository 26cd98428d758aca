package ociruntime

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadStatus(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 204 No Content\r\n\r\n":                                                                "",
		"HTTP/1.0 200 OK\r\n\r\nhello":                                                                   "",
		"HTTP/1.1 500 Internal Server Error\r\nA: b\r\n\r\nfirst\nno seed\n":                             `it answered "500 Internal Server Error": no seed`,
		"HTTP/1.1 500 Error\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nno s\r\n3;a=b\r\need\r\n0\r\n\r\n": `it answered "500 Error": no seed`,
		"HTTP/1.1 500 Error\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\nno seed":                    `it answered "500 Error": no seed`,
		"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n":                                                      `it answered "302 Found"`,
		"SSH-2.0-OpenSSH\r\n": "is not an answer in HTTP",
		"":                    "no answer",
	} {
		err := readStatus(strings.NewReader(answer))
		if want == "" {
			require.NoError(t, err, answer)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestTail(t *testing.T) {
	var o tail
	require.Empty(t, o.line())
	_, err := o.Write([]byte(strings.Repeat("x", 2*mostOutput) + "\nlast\n\n"))
	require.NoError(t, err)
	require.Equal(t, ": last", o.line())
	require.LessOrEqual(t, len(o.b), mostOutput)
}
