package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

func verifyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify REF…",
		Short: "Read snapshots whole and check every digest",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, refs []string) error {
			return a.forEach(cmd.Context(), refs, resolve, func(ctx context.Context, s store.Store, e store.Entry) error {
				if err := snapshot.Verify(ctx, s, e.Manifest); err != nil {
					return fmt.Errorf("%s: %w", e.Name, err)
				}
				return a.report("verified", e)
			})
		},
	}
}

func removeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm REF…",
		Aliases: []string{"remove"},
		Short:   "Remove snapshots from the store",
		Long: `Removes snapshots from the store, and with them what no other snapshot shares. Containers that were started from
them go on, and can be restarted; what machines have in their caches stays until it is evicted.`,
		Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, refs []string) error {
			ctx := cmd.Context()
			err := a.forEach(ctx, refs, removable, func(ctx context.Context, s store.Store, e store.Entry) error {
				if err := s.DeleteRef(ctx, e.Name, e.Generation); err != nil {
					return err
				}
				return a.report("removed", e)
			})
			_, serr := a.sweep(ctx)
			return errors.Join(err, serr)
		},
	}
}

// forEach does something to every snapshot that the operands name; one that fails does not keep it from the others.
func (a *app) forEach(ctx context.Context, refs []string, find func(context.Context, store.Store, string) (store.Entry, error),
	do func(context.Context, store.Store, store.Entry) error,
) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	var errs []error
	for _, ref := range refs {
		entry, err := find(ctx, s, ref)
		if err == nil {
			err = do(ctx, s, entry)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removable finds a snapshot, or a ref that is damaged and given whole: while that is there nothing can be swept.
func removable(ctx context.Context, s store.Store, ref string) (store.Entry, error) {
	entry, err := resolve(ctx, s, ref)
	if errors.Is(err, store.ErrCorrupt) && entry.Generation != "" {
		return entry, nil
	}
	return entry, err
}

// sweep removes the blobs that no snapshot needs any more; those of a publication under way wait for the next time.
func (a *app) sweep(ctx context.Context) (store.Swept, error) {
	s, err := a.openStore(ctx)
	if err != nil {
		return store.Swept{}, err
	}
	defer s.Close()
	swept, err := s.Sweep(ctx)
	if err != nil {
		return swept, err
	}
	switch {
	case a.json:
		return swept, a.printJSON(struct {
			Event string `json:"event"`
			Blobs int    `json:"blobs"`
			Bytes int64  `json:"bytes"`
			Busy  bool   `json:"busy"`
		}{"swept", swept.Blobs, swept.Bytes, swept.Busy})
	case swept.Busy:
		fmt.Fprintln(a.stderr, "a snapshot is being published: unused blobs are removed the next time")
	default:
		fmt.Fprintf(a.stderr, "freed %s in %d blobs\n", size(swept.Bytes), swept.Blobs)
	}
	return swept, nil
}

// report says what was done to a snapshot.
func (a *app) report(event string, e store.Entry) error {
	if a.json {
		return a.printJSON(struct {
			Event  string `json:"event"`
			Ref    string `json:"ref"`
			Digest string `json:"digest"`
		}{event, e.Name, e.Manifest.Digest.String()})
	}
	_, err := fmt.Fprintf(a.stdout, "%s %s\n", event, e.Name)
	return err
}
