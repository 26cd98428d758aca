package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/cache"
	"github.com/criu-docker/criu-docker/shared/restore"
)

func cacheCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "List or remove what this machine keeps of snapshots",
		Args:  usage(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:     "ls",
			Aliases: []string{"list"},
			Short:   "List the unpacked snapshots, least recently used first",
			Long:    `With --json it prints {"digest", "image", "bytes", "used", "containers"} for each.`,
			Args:    usage(cobra.NoArgs),
			RunE:    func(*cobra.Command, []string) error { return a.listCache() },
		},
		&cobra.Command{
			Use:   "prune",
			Short: "Remove the unpacked snapshots that no container uses",
			Long: `Removes what belongs to containers that no longer exist, and then the unpacked snapshots that no container was
started from. The next start from one of them fetches it again.`,
			Args: usage(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.pruneCache(cmd.Context()) },
		},
	)
	return cmd
}

// cached is what cache ls --json prints for a snapshot.
type cached struct {
	Digest     string    `json:"digest"`
	Image      string    `json:"image"`
	Bytes      int64     `json:"bytes"` // on disk
	Used       time.Time `json:"used"`
	Containers []string  `json:"containers"`
}

func (a *app) listCache() error {
	items, err := a.cachedSnapshots()
	if err != nil {
		return err
	}
	if a.json {
		for _, i := range items {
			if err := a.printJSON(cached{i.Manifest.String(), i.Config.Image.Reference, i.Bytes, i.Used, i.Clones}); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(a.stdout, "DIGEST", "IMAGE", "SIZE", "USED", "CONTAINERS")
	for _, i := range items {
		var clones []string
		for _, id := range i.Clones {
			clones = append(clones, id[:min(12, len(id))])
		}
		t.row(shortDigest(i.Manifest.String()), i.Config.Image.Reference, size(i.Bytes), ago(i.Used), strings.Join(clones, " "))
	}
	return t.flush()
}

// cachedSnapshots only looks: a listing changes nothing, and where there is no cache it makes none.
func (a *app) cachedSnapshots() ([]cache.Item, error) {
	if _, err := a.cacheBytes(); err != nil {
		return nil, err // as from every command that has the flag
	}
	c, err := cache.Look(a.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cacheError(err)
	}
	return c.List()
}

func (a *app) pruneCache(ctx context.Context) error {
	eng, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer eng.Close()
	if _, err := cache.Look(a.cache); errors.Is(err, fs.ErrNotExist) {
		return a.printPruned(0, 0) // and none is made
	}
	c, err := a.openCache()
	if err != nil {
		return err
	}
	if err := restore.Sweep(ctx, eng, c); err != nil {
		return err
	}
	items, err := c.List()
	if err != nil {
		return err
	}
	var removed int
	var freed int64
	var errs []error
	for _, i := range items {
		switch err := c.Evict(i.Manifest); {
		case errors.Is(err, cache.ErrInUse):
		case err != nil:
			errs = append(errs, err)
		default:
			removed++
			freed += i.Bytes
		}
	}
	return errors.Join(append(errs, a.printPruned(removed, freed))...)
}

func (a *app) printPruned(removed int, freed int64) error {
	if a.json {
		return a.printJSON(struct {
			Removed int   `json:"removed"`
			Bytes   int64 `json:"bytes"`
		}{removed, freed})
	}
	_, err := fmt.Fprintf(a.stdout, "removed %d snapshots, freed %s\n", removed, size(freed))
	return err
}
