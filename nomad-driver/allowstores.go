package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/criu-docker/criu-docker/shared/store"
)

// allowedStores are the stores that tasks may name beside the plugin's own. A snapshot is a process image, so the choice
// of a store is a choice of what runs, with which privileges.
type allowedStores []allowedStore

// allowedStore is one entry of allow_stores.
type allowedStore struct {
	root  string   // "gs://BUCKET", or "" for directories
	elems []string // patterns, one for each element of the path
	below bool     // the entry ended in "/**": whatever is below
}

// parseAllowStores checks the entries of snapshot.allow_stores.
func parseAllowStores(entries []string) (allowedStores, error) {
	var allowed allowedStores
	for i, entry := range entries {
		a, err := parseAllowedStore(entry)
		if err != nil {
			return nil, fmt.Errorf("snapshot.allow_stores[%d] = %q: %w", i, entry, err)
		}
		allowed = append(allowed, a)
	}
	return allowed, nil
}

func parseAllowedStore(entry string) (a allowedStore, err error) {
	plain, below := strings.CutSuffix(entry, "/**")
	address, err := canonicalStore(plain)
	if err != nil {
		return a, err
	}
	a.root, a.elems = splitStore(address)
	a.below = below
	if strings.ContainsAny(a.root, `*?[\`) {
		return a, fmt.Errorf("a bucket's name can't be a pattern, since anybody may make a bucket that fits: list the buckets by name")
	}
	for _, elem := range a.elems {
		if _, err := path.Match(elem, ""); err != nil || strings.Contains(elem, "**") {
			return a, fmt.Errorf("%q is not a pattern for one element of a path: * stands for any name there, and /** at the end for everything below", elem)
		}
	}
	return a, nil
}

// allow reports whether a task may name a store, given by its canonical address.
func (l allowedStores) allow(address string) bool {
	root, elems := splitStore(address)
	for _, a := range l {
		if a.matches(root, elems) {
			return true
		}
	}
	return false
}

func (a allowedStore) matches(root string, elems []string) bool {
	if a.root != root || len(elems) < len(a.elems) || len(elems) > len(a.elems) && !a.below {
		return false
	}
	for i, pattern := range a.elems {
		if ok, err := path.Match(pattern, elems[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

// canonicalStore returns the one spelling of a store's address. A path has to be absolute: a plugin has no directory of its own.
func canonicalStore(address string) (string, error) {
	canonical, err := store.Canonical(address)
	if err != nil {
		return "", err
	}
	root, elems := splitStore(canonical)
	if root == "" && !path.IsAbs(canonical) {
		return "", fmt.Errorf("want an absolute path, or gs://BUCKET[/PREFIX]")
	}
	for _, elem := range elems {
		if elem == ".." || elem == "." {
			return "", fmt.Errorf("%q is not a name", elem)
		}
	}
	return canonical, nil
}

// splitStore splits a canonical address into what can't be a pattern and the elements of its path.
func splitStore(address string) (root string, elems []string) {
	rest := address
	if bucket, ok := strings.CutPrefix(address, "gs://"); ok {
		bucket, rest, _ = strings.Cut(bucket, "/")
		root = "gs://" + bucket
	}
	if rest = strings.Trim(rest, "/"); rest != "" {
		elems = strings.Split(rest, "/")
	}
	return root, elems
}
