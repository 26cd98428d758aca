package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimesOfACrowd(t *testing.T) {
	require.Equal(t, crowdTimes{half: 2, all: 4}, timesOf([]time.Duration{4, 1, 3, 2}))
	require.Equal(t, crowdTimes{half: 7, all: 7}, timesOf([]time.Duration{7}))
	_, err := parse([]string{"-many", "-1"})
	require.ErrorContains(t, err, "-many -1: want 0, for none, or a number of containers")
}
