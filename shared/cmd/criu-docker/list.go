package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

func listCommand(a *app) *cobra.Command {
	var noTrunc bool
	cmd := &cobra.Command{
		Use:     "ls [REF-PREFIX]",
		Aliases: []string{"list"},
		Short:   "List the snapshots in the store",
		Long: `Lists the snapshots whose refs begin with REF-PREFIX. One that can't be read is listed all the same, and makes the
exit code 1. With --json it prints {"ref", "digest", "updated", "config", "error"} for each; docs/format.md explains
the config.`,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.list(cmd.Context(), strings.Join(args, ""), noTrunc)
		},
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "print refs and digests whole")
	return cmd
}

// listed is a line of the listing.
type listed struct {
	Ref     string           `json:"ref"`
	Digest  string           `json:"digest"`
	Updated time.Time        `json:"updated"`
	Config  *snapshot.Config `json:"config,omitempty"` // nil if it can't be read
	Error   string           `json:"error,omitempty"`  // why
}

// loadLimit bounds how many snapshots are read at the same time; each costs two round trips to the store.
const loadLimit = 16

func (a *app) list(ctx context.Context, prefix string, noTrunc bool) error {
	s, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	entries, corrupt := s.ListRefs(ctx, prefix)
	if corrupt != nil && !errors.Is(corrupt, store.ErrCorrupt) {
		return corrupt
	}
	list := make([]listed, len(entries))
	group, loadCtx := errgroup.WithContext(ctx)
	group.SetLimit(loadLimit)
	for i, e := range entries {
		group.Go(func() error {
			list[i] = load(loadCtx, s, e)
			return loadCtx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := a.printList(list, noTrunc); err != nil {
		return err
	}
	return errors.Join(unreadable(list), corrupt)
}

func load(ctx context.Context, s store.Store, e store.Entry) listed {
	l := listed{Ref: e.Name, Digest: e.Manifest.Digest.String(), Updated: e.Updated}
	_, config, err := snapshot.Load(ctx, s, e.Manifest)
	if err != nil {
		l.Error = err.Error()
		return l
	}
	l.Config = &config
	return l
}

func (a *app) printList(list []listed, noTrunc bool) error {
	if a.json {
		for _, l := range list {
			if err := a.printJSON(l); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable(a.stdout, "REF", "IMAGE", "COMMAND", "CREATED", "MEMORY", "STORED", "DIGEST")
	for _, l := range list {
		ref, dgst := l.Ref, l.Digest
		if !noTrunc {
			ref, dgst = shortRef(ref), shortDigest(dgst)
		}
		if c := l.Config; c != nil {
			t.row(ref, c.Image.Reference, commandLine(c.Run.Args, noTrunc), ago(c.Created), size(c.Sizes.Memory), size(c.Sizes.Packed), dgst)
		} else {
			t.row(ref, "(unreadable)", "", "", "", "", dgst)
		}
	}
	return t.flush()
}

// unreadable returns an error that names what is wrong with the snapshots that could not be read.
func unreadable(list []listed) error {
	var errs []error
	for _, l := range list {
		if l.Error != "" {
			errs = append(errs, fmt.Errorf("%s: %s", shortRef(l.Ref), l.Error))
		}
	}
	return errors.Join(errs...)
}

// shortRef cuts the image's id to docker's length; the result can be given to any command.
func shortRef(ref string) string {
	image, rest, ok := strings.Cut(ref, "/")
	if !ok || len(image) < 12 {
		return ref
	}
	return image[:12] + "/" + rest
}

func shortDigest(dgst string) string {
	const length = len("sha256:") + 12
	return dgst[:min(length, len(dgst))]
}

func commandLine(args []string, whole bool) string {
	const limit = 32
	line := []rune(strings.Join(args, " "))
	if whole || len(line) <= limit {
		return string(line)
	}
	return string(line[:limit-1]) + "…"
}
