package restore

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// Run refuses what it would have to guess, whatever the policy.
func TestRunRefusesWrongOptions(t *testing.T) {
	image := engine.Spec{Config: &container.Config{Image: "tiny:lab"}}
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{}, `image = "": name the image`},
		{Options{Spec: image}, `policy = "": want never, if_present or always`},
		{Options{Spec: image, Policy: PolicyAlways}, "needs a store and a cache"},
		{Options{Spec: image, Policy: PolicyNever, Memory: "64MB"}, `memory = "64MB": want lazy, eager or auto`},
	} {
		_, err := Run(t.Context(), nil, test.opts)
		require.ErrorContains(t, err, test.want)
	}
}
