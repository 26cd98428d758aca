package ociruntime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWantedOOMScore(t *testing.T) {
	const engines, own = -500, 300
	for name, c := range map[string]struct{ is, inherited, donors, want int }{
		"neither the donor nor CRIU had one":                  {0, 0, 0, own},
		"the donor had none, and CRIU leaves its own":         {engines, engines, 0, own},
		"the donor's was configured":                          {100, engines, 100, own},
		"the donor's was that of the engine":                  {engines, engines, engines, own},
		"the app has set it":                                  {200, engines, 100, 200},
		"the app has set it to 0, and CRIU leaves its own":    {engines, engines, 100, 0},
		"the app has set it, and nothing else has a score":    {200, 0, 0, 200},
		"the app has set it to 0 where the donor's was other": {0, 0, 100, 0},
	} {
		require.Equal(t, c.want, wantedOOMScore(c.is, c.inherited, c.donors, own), name)
	}
}
