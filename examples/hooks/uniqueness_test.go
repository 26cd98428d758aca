package hooks

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/hook"
)

var update = flag.Bool("update", false, "write docs/randomness.md instead of comparing it")

const pageFile = "../../docs/randomness.md"

// Of clones that were told, no two may have anything random in common. Of those that were not, the page says what they have.
func TestUniqueness(t *testing.T) {
	l := newLab(t)
	for _, r := range runtimes {
		t.Run(r.name, func(t *testing.T) {
			defer l.removeContainers(t)
			l.build(t, r)
			untold := l.clones(t, r, untoldClones, []hook.Hook{})
			told := l.clones(t, r, 8, nil)
			for _, g := range r.generators {
				if values := valuesOf(t, untold, g.name); g.shared {
					requireShared(t, g.name, values)
				} else {
					requireDistinct(t, g.name, values)
				}
				if values := valuesOf(t, told, g.name); g.cure != "" {
					requireDistinct(t, g.name, values)
				} else {
					requireShared(t, g.name, values)
				}
			}
			if len(r.openssl) > 0 {
				l.build(t, r.withProvider())
				untold := l.clones(t, r.withProvider(), untoldClones, []hook.Hook{})
				for _, g := range r.generators {
					if values := valuesOf(t, untold, g.name); slices.Contains(r.openssl, g.name) {
						requireDistinct(t, g.name+" with the provider", values)
					} else {
						requireShared(t, g.name+" with the provider", values)
					}
				}
			}
			for _, values := range append(untold, told...) {
				require.Len(t, values, len(r.generators), "the service answers with what isn't in runtimes_test.go")
			}
		})
	}
	if t.Failed() {
		return
	}
	if *update {
		require.NoError(t, os.WriteFile(pageFile, []byte(page()), 0o644))
	}
	current, err := os.ReadFile(pageFile)
	require.NoError(t, err)
	require.Equal(t, page(), string(current), "run this test with -update")
}

// clones starts so many of one snapshot at once, with the hooks, if not nil, in place of the snapshot's, and returns what each answers first.
func (l *lab) clones(t *testing.T, r runtime, count int, hooks []hook.Hook) []map[string]any {
	t.Helper()
	answers := make([]map[string]any, count)
	var group errgroup.Group
	for i := range count {
		group.Go(func() error {
			ip, err := l.clone(r, hooks)
			if err != nil {
				return err
			}
			values, err := ask(l.ctx, ip)
			if err != nil {
				return err
			}
			if r.tls {
				values[serverRandom], values[ticketKey], err = askTLS(l.ctx, ip+":8443")
			}
			answers[i] = values
			return err
		})
	}
	require.NoError(t, group.Wait())
	return answers
}

func valuesOf(t *testing.T, answers []map[string]any, name string) []string {
	t.Helper()
	var values []string
	for _, answer := range answers {
		require.Contains(t, answer, name)
		values = append(values, fmt.Sprint(answer[name]))
	}
	return values
}

// untoldClones are so many that two have the same value although the threads of an app may each have a generator, and which one of them
// answers first in a clone is chance.
const untoldClones = 4

func requireShared(t *testing.T, name string, values []string) {
	t.Helper()
	require.Less(t, len(slices.Compact(slices.Sorted(slices.Values(values)))), len(values), "%s is not shared: say so in runtimes_test.go: %s", name, values)
}

func requireDistinct(t *testing.T, name string, values []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, v := range values {
		require.False(t, seen[v], "%s: two clones have %s", name, v)
		seen[v] = true
	}
}
