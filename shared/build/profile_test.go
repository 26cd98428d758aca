package build

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// What keeps an app from being restored lazily, and only so, can't be provoked on every host.
func TestProve(t *testing.T) {
	first := []snapshot.Range{{File: "pages-1.img", Length: 8 << 10}}
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		unable, lazy, eager error
		want                proof
		says                string
	}{
		"lazily":               {want: proof{first: first, message: "8 KiB are needed first"}},
		"eagerly only":         {lazy: broken, want: proof{noLazy: "broken", message: "restored eagerly only: broken"}},
		"on this host eagerly": {unable: errors.New("no userfaultfd"), lazy: broken, want: proof{message: "restored eagerly only: no userfaultfd"}},
		"not at all":           {lazy: errors.New("also"), eager: broken, says: "it was not published, since no container could be started from it: broken; --no-profile"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := prove(t.Context(), c.unable, func(lazy bool) ([]snapshot.Range, error) {
				if !lazy {
					return nil, c.eager
				}
				if c.lazy != nil {
					return nil, c.lazy
				}
				return first, nil
			})
			if c.says != "" {
				require.ErrorIs(t, err, ErrNotRestorable)
				require.ErrorIs(t, err, broken)
				require.ErrorContains(t, err, c.says)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, p)
		})
	}
	ended, end := context.WithCancel(t.Context())
	end()
	_, err := prove(ended, nil, func(bool) ([]snapshot.Range, error) { return nil, broken })
	require.NotErrorIs(t, err, ErrNotRestorable, "whoever gave up proves nothing")
}
