package criu

import (
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is explained has a meaning and a remedy, both of them sentences without end, and refers to groups that exist.
func TestExplanationsAreComplete(t *testing.T) {
	group := regexp.MustCompile(`\$\{(\d+)\}`)
	seen := map[string]bool{}
	for _, e := range slices.Concat(causes(), symptoms()) {
		pattern := e.pattern.String()
		require.False(t, seen[pattern], pattern)
		seen[pattern] = true
		for _, text := range []string{e.meaning, e.remedy} {
			require.NotEmpty(t, text, pattern)
			require.NotRegexp(t, `[.!]$|^[A-Z][a-z]+ing `, text, pattern)
			for _, m := range group.FindAllStringSubmatch(text, -1) {
				n, err := strconv.Atoi(m[1])
				require.NoError(t, err)
				require.LessOrEqual(t, n, e.pattern.NumSubexp(), pattern)
			}
		}
	}
}
