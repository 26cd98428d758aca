package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAllowStores(t *testing.T) {
	for _, c := range []struct {
		entry string
		allow []string
		deny  []string
	}{
		{
			"/srv/stores/*",
			[]string{"/srv/stores/web", "/srv/stores/web/", "file:///srv/stores/web", "/srv//stores/./web", "/srv/stores/a/../web"},
			[]string{
				"/srv/stores/../../tmp/evil", "/srv/stores/..", "/srv/stores", "/srv/stores/web/more", "/srv/storesX/web", "/tmp/evil",
				"file:///srv/stores/../../tmp/evil", "gs://srv/stores/web",
			},
		},
		{
			"/srv/stores/**",
			[]string{"/srv/stores", "/srv/stores/web", "/srv/stores/web/more"},
			[]string{"/srv/stores/../../tmp/evil", "/srv/stores2", "/srv"},
		},
		{"/srv/team-*/snapshots", []string{"/srv/team-a/snapshots"}, []string{"/srv/team-a/b/snapshots", "/srv/team-a"}},
		{"gs://snapshots", []string{"gs://snapshots", "gs://snapshots/"}, []string{"gs://snapshots/web", "gs://snapshots-evil", "/snapshots"}},
		{"gs://snapshots/*", []string{"gs://snapshots/web"}, []string{"gs://snapshots", "gs://snapshots-evil/web", "gs://snapshots/web/more"}},
		{"gs://snapshots/**", []string{"gs://snapshots", "gs://snapshots/web/more"}, []string{"gs://snapshots-evil", "gs://snapshots-evil/web"}},
	} {
		t.Run(c.entry, func(t *testing.T) {
			s, err := parsePlugin(t, `snapshot { allow_stores = ["`+c.entry+`"] }`)
			require.NoError(t, err)
			plan := func(address string) error {
				_, err := parseTask(t, "image = \"a\"\nsnapshot {\nstore = \""+address+"\"\n}").plan(s)
				return err
			}
			for _, address := range c.allow {
				require.NoError(t, plan(address))
			}
			for _, address := range c.deny {
				require.ErrorContains(t, plan(address), "is not allowed on this client", address)
			}
		})
	}
}

func TestAllowStoresRefuses(t *testing.T) {
	for entry, says := range map[string]string{
		"gs://snapshots-*":  "a bucket's name can't be a pattern, since anybody may make a bucket that fits: list the buckets by name",
		"gs://[a-z]/web":    "a bucket's name can't be a pattern",
		"gs://*/**":         "a bucket's name can't be a pattern",
		"srv/stores/*":      "want an absolute path, or gs://BUCKET[/PREFIX]",
		"/srv/[a":           `"[a" is not a pattern`,
		"/srv/**/snapshots": `"**" is not a pattern for one element of a path`,
		"s3://bucket/*":     "that scheme is not known",
	} {
		_, err := parsePlugin(t, `snapshot { allow_stores = ["/srv/ok", "`+entry+`"] }`)
		require.ErrorContains(t, err, `snapshot.allow_stores[1] = "`+entry+`": `)
		require.ErrorContains(t, err, says)
	}
	_, err := parsePlugin(t, `snapshot { store = "snapshots" }`)
	require.ErrorContains(t, err, `snapshot.store = "snapshots": want an absolute path`)
}

// TestStoreOfATaskIsCanonical: what was compared is what is opened, and the plugin's own store may be spelled in any way.
func TestStoreOfATaskIsCanonical(t *testing.T) {
	s, err := parsePlugin(t, `snapshot {
		store        = "file:///srv/own/"
		allow_stores = ["/srv/stores/*"]
	}`)
	require.NoError(t, err)
	for given, opened := range map[string]string{"/srv/stores/a/../b/": "/srv/stores/b", "/srv/own": "/srv/own", "": "/srv/own"} {
		plan, err := parseTask(t, "image = \"a\"\nsnapshot {\nstore = \""+given+"\"\n}").plan(s)
		require.NoError(t, err)
		require.Equal(t, opened, plan.store)
	}
}
