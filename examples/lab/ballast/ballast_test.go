package main

import (
	"bytes"
	"compress/flate"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnswersTellWhetherTheMemoryIsRight(t *testing.T) {
	m, err := fill(2 << 20)
	require.NoError(t, err)
	status := func(path string) int {
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	assert.Equal(t, http.StatusOK, status("/"))
	assert.Equal(t, http.StatusOK, status("/all"))
	assert.Equal(t, http.StatusNotFound, status("/some"))

	m.bytes[chunkSize+1]++ // not needed for an answer
	assert.Equal(t, http.StatusOK, status("/"))
	assert.Equal(t, http.StatusInternalServerError, status("/all"))
	clear(m.bytes[oneIn*chunkSize : oneIn*chunkSize+pageSize])
	assert.Equal(t, http.StatusInternalServerError, status("/"))
}

func TestATenthIsNeeded(t *testing.T) {
	n := 0
	for chunk := range 1000 {
		if needed(chunk) {
			n++
		}
	}
	assert.Equal(t, 100, n)
}

// As an app's memory: a snapshot of it is neither nothing nor as big as the memory.
func TestPages(t *testing.T) {
	const pages = 512
	m, err := fill(pages * pageSize)
	require.NoError(t, err)
	again, err := fill(pages * pageSize)
	require.NoError(t, err)
	assert.Equal(t, m.all, again.all, "every boot makes the same")
	seen := map[string]bool{}
	for at := 0; at < len(m.bytes); at += pageSize {
		seen[string(m.bytes[at:at+pageSize])] = true
	}
	assert.Len(t, seen, pages, "pages differ")
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	require.NoError(t, err)
	_, err = w.Write(m.bytes)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Greater(t, packed.Len(), len(m.bytes)/5)
	assert.Less(t, packed.Len(), len(m.bytes)/2)
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"1", "2", "3"}, {"0"}, {"64m"}} {
		assert.ErrorContains(t, run(args), "MiB")
	}
	assert.Equal(t, os.Getpagesize(), pageSize)
}
