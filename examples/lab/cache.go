package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// cacheKind is that of a cache. make puts tools there before there is a lab to mark it.
var cacheKind = owned.Kind{Name: "lab-cache", Version: 1, Mode: 0o755, Known: func(entries map[string]fs.FileMode) bool {
	for name := range entries {
		if !cachedNames.MatchString(name) {
			return false
		}
	}
	return true
}}

var cachedNames = regexp.MustCompile(`^(images|tools|(rootfs|nomad|criu-standin|dockerd|runc|vm)-[0-9a-z.-]+)$`)

// cached returns the directory of that name in the cache, made with build if it is not there. Two processes that want the same
// directory build it once.
func (l *Lab) cached(ctx context.Context, name string, build func(tmp string) error) (string, error) {
	own, err := cacheKind.Make(l.Cache)
	if err != nil {
		return "", fmt.Errorf("LAB_CACHE: %w", err)
	}
	dir := own.Path(name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	return dir, buildOnce(ctx, dir, build)
}

// buildOnce makes the directory with build, in a temporary place that gets its name only when it is complete.
func buildOnce(ctx context.Context, dir string, build func(tmp string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	unlock, err := lockFile(ctx, dir+".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("remove an unfinished build: %w", err)
	}
	if err := build(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("put the build in place: %w", err)
	}
	return nil
}
