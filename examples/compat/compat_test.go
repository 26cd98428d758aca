package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample is what is tried in every run of the tests; the others are tried by make compat.
var sample = []string{
	"UDP client, IPv6",
	"TCP connected",
	"timerfd",
	"inotify on the container's disk",
	"POSIX semaphore with a name",
	"Pool of worker processes",
	"memfd, sealed",
	"1 TiB reserved",
	"File deleted under one of two names",
	"Seccomp filter of one thread",
	"Zombie",
	"Process whose first thread has ended",
}

// On one node: the donor's address is taken all the same.
func TestSample(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	n, err := newNode(ctx, "")
	require.NoError(t, err, "these tests run inside a node of the lab: make test")
	t.Cleanup(func() { require.NoError(t, n.close()) })
	for _, name := range sample {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(rows(), func(r row) bool { return r.Name == name })
			require.GreaterOrEqual(t, i, 0, "no such row")
			r := rows()[i]
			require.NoError(t, n.restore(ctx, r, 0, n.freeze(ctx, r, 0, result{})).check(r))
		})
	}
}

// A row that is new, or has another name, is not on the page until make compat has tried it.
func TestPageHasAllRows(t *testing.T) {
	page, err := os.ReadFile("../../docs/compatibility.md")
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, r := range rows() {
		require.False(t, seen[resultFile("", r.Name)], "%s: another row's results have the same file", r.Name)
		seen[resultFile("", r.Name)] = true
		require.Contains(t, string(page), "\n| "+r.Name+" | ", "run make compat")
	}
	_, tables, _ := strings.Cut(string(page), "\n## ")
	require.Equal(t, len(rows()), strings.Count(tables, "\n| ")-2, "rows of the page, without those of the heads: run make compat")
}

func TestCheck(t *testing.T) {
	all := result{Row: "a", Freezes: works, Lazy: works, Eager: works, Restart: works, Stop: works, Idle: works}
	lost := all
	lost.Lazy = "there is no room"
	for _, c := range []struct {
		name   string
		result result
		limit  string
		want   string
	}{
		{"works", all, "", ""},
		{"fails", lost, "", "lazy: there is no room"},
		{"fails as expected", lost, "no room", ""},
		{"fails otherwise", lost, "no time", `want an error like "no time"`},
		{"works, which it did not", all, "no room", "out of date"},
		{"was not frozen", result{}, "", "not tried"},
		{"was not restored", result{Freezes: works}, "", "not tried"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.result.check(row{Name: "a", Limit: c.limit})
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
		})
	}
}
