package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ErrAmbiguous is returned where a shortened ref stands for several snapshots.
var ErrAmbiguous = errors.New("stands for more than one snapshot")

// minShort is the length from which on a shortened ref or digest is taken.
const minShort = 4

// Resolve finds the snapshot that a user means: by its ref, of which every part may be shortened and the last ones left
// out, or by its manifest's digest ("sha256:…"), which may be shortened as well. ErrNotFound if there is none,
// ErrAmbiguous if there are several.
func Resolve(ctx context.Context, s Store, ref string) (Entry, error) {
	hex, isDigest := strings.CutPrefix(ref, string(digest.SHA256)+":")
	parts := strings.Split(ref, "/")
	if !isDigest && len(parts) == 3 {
		entry, err := s.GetRef(ctx, ref)
		if !errors.Is(err, ErrNotFound) {
			return entry, err
		}
	}
	prefix, match := parts[0], func(e Entry) bool { return startWith(strings.Split(e.Name, "/"), parts) }
	if isDigest {
		prefix, match = "", func(e Entry) bool { return strings.HasPrefix(e.Manifest.Digest.Encoded(), hex) }
	}
	given := parts[0]
	if isDigest {
		given = hex
	}
	if len(given) < minShort {
		return Entry{}, fmt.Errorf("snapshot %q: give at least %d characters of its ref or digest", ref, minShort)
	}
	entries, err := s.ListRefs(ctx, prefix)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return Entry{}, err
	}
	var found []Entry
	for _, e := range entries {
		if match(e) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		if err != nil { // it may be one that can't be read
			return Entry{}, fmt.Errorf("snapshot %q: %w %s: %w", ref, ErrNotFound, s.URL(), err)
		}
		return Entry{}, fmt.Errorf("snapshot %q: %w %s", ref, ErrNotFound, s.URL())
	case 1:
		return found[0], nil
	default:
		return Entry{}, fmt.Errorf("snapshot %q: %w in %s: give more of it; there are %s", ref, ErrAmbiguous, s.URL(), list(found))
	}
}

// startWith reports whether every part of a shortened ref is the beginning of the whole one's.
func startWith(whole, short []string) bool {
	if len(short) > len(whole) {
		return false
	}
	for i, part := range short {
		if !strings.HasPrefix(whole[i], part) {
			return false
		}
	}
	return true
}

// list names the first few of several snapshots.
func list(entries []Entry) string {
	const few = 3
	var names []string
	for _, e := range entries[:min(few, len(entries))] {
		names = append(names, e.Name)
	}
	if more := len(entries) - few; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
