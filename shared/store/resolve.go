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

// Resolve finds the snapshot that a user means: by its ref, by the beginning of its ref, or by its manifest's digest
// or the beginning of that ("sha256:…"). ErrNotFound if there is none, ErrAmbiguous if there are several.
func Resolve(ctx context.Context, s Store, ref string) (Entry, error) {
	if strings.Count(ref, "/") == 2 {
		entry, err := s.GetRef(ctx, ref)
		if !errors.Is(err, ErrNotFound) {
			return entry, err
		}
		// The last part may have been cut off: "…/amd" for "…/amd64".
	}
	prefix, match := ref, func(e Entry) bool { return strings.HasPrefix(e.Name, ref) }
	if hex, ok := strings.CutPrefix(ref, string(digest.SHA256)+":"); ok {
		prefix, match = "", func(e Entry) bool { return strings.HasPrefix(e.Manifest.Digest.Encoded(), hex) }
		ref = hex
	}
	if len(ref) < minShort {
		return Entry{}, fmt.Errorf("snapshot %q: give at least %d characters of its ref or digest", ref, minShort)
	}
	entries, err := s.ListRefs(ctx, prefix)
	if err != nil {
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
		return Entry{}, fmt.Errorf("snapshot %q: %w %s", ref, ErrNotFound, s.URL())
	case 1:
		return found[0], nil
	default:
		return Entry{}, fmt.Errorf("snapshot %q: %w in %s: give more of it; there are %s", ref, ErrAmbiguous, s.URL(), list(found))
	}
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
