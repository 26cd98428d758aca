package pages

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWorks(t *testing.T) {
	require.NoError(t, reservable(8<<30, "0", 8<<30))
	require.NoError(t, reservable(1<<40, "1", 8<<30))
	require.ErrorContains(t, reservable(1<<40, "0", 8<<30), "reserves 1024 GiB of address space in one piece, and this host has 8 GiB of memory")
	require.Error(t, reservable(1<<40, "2", 8<<30))
	require.NoError(t, Works(1<<20, false))
}
