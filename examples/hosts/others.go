package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// others starts, on this lane, what each other lane has frozen, and compares the outcome with what the lanes are.
func (h *host) others(ctx context.Context) (string, error) {
	here, err := laneNamed(h.lane)
	if err != nil {
		return "", err
	}
	stores, err := os.ReadDir(h.stores)
	if err != nil {
		return "", err
	}
	var hot, other, unfit []string
	var wrong []error
	for _, s := range stores {
		from, err := laneNamed(s.Name())
		if err != nil {
			return "", err
		}
		if from.Name == here.Name {
			continue
		}
		const name = "hosts-other"
		err = start(ctx, filepath.Join(h.stores, from.Name), name)
		switch {
		case from.Containerd != here.Containerd && err != nil && strings.Contains(err.Error(), otherIDs):
			other = append(other, from.Name)
		case from.Containerd != here.Containerd:
			wrong = append(wrong, fmt.Errorf("of %s: want a reason that says %q: %w", from.Name, otherIDs, err))
		case from.Slow != here.Slow && err != nil && otherMachine(err):
			unfit = append(unfit, from.Name)
		case err != nil:
			wrong = append(wrong, fmt.Errorf("of %s: %w", from.Name, err))
		default:
			hot = append(hot, from.Name)
			wrong = append(wrong, h.isAlive(ctx, name))
		}
		if err := quiet(ctx, "docker", "rm", "-f", name); err != nil && !strings.Contains(err.Error(), "No such container") {
			wrong = append(wrong, err)
		}
	}
	var notes []string
	if len(hot) > 0 {
		notes = append(notes, "hot: "+strings.Join(hot, ", "))
	}
	if len(other) > 0 {
		notes = append(notes, "other image ids: "+strings.Join(other, ", "))
	}
	if len(unfit) > 0 {
		notes = append(notes, "another processor or a newer kernel: "+strings.Join(unfit, ", "))
	}
	return strings.Join(notes, "; "), errors.Join(wrong...)
}

// otherMachine reports whether the reason is another processor, such as an emulated one, or another kernel.
func otherMachine(err error) bool {
	return strings.Contains(err.Error(), "this processor") || strings.Contains(err.Error(), "was made on Linux")
}

// otherIDs is in the reason why what was frozen where images have other ids is not found.
const otherIDs = "in this engine's image store"

func laneNamed(name string) (lane, error) {
	i := slices.IndexFunc(lanes, func(l lane) bool { return l.Name == name })
	if i < 0 {
		return lane{}, fmt.Errorf("there is no lane %q", name)
	}
	return lanes[i], nil
}

// isAlive looks whether a clone answers that has no published port, and under its own hostname.
func (h *host) isAlive(ctx context.Context, name string) error {
	page, err := output(ctx, "docker", "exec", name, "sh", "-c", "hostname; wget -qO- http://127.0.0.1/")
	if err == nil && (!strings.HasPrefix(page, name+"\n") || !strings.Contains(page, "It works")) {
		err = fmt.Errorf("%s answers %q", name, page)
	}
	return err
}

// left removes what the steps have made, as users do, and then looks at what they can't see.
func (h *host) left(ctx context.Context) (string, error) {
	if err := errors.Join(quiet(ctx, "docker", "rm", "-f", web1, web2, kept), h.forget(ctx, h.store())); err != nil {
		return "", err
	}
	if err := quiet(ctx, "criu-docker", "cache", "prune"); err != nil {
		return "", err
	}
	return "", eventually(ctx, func() error {
		all, err := output(ctx, "docker", "ps", "-aq")
		if err == nil && all != "" {
			err = fmt.Errorf("containers are left: %s", all)
		}
		return errors.Join(err, empty("/var/lib/criu-docker/requests"), empty("/run/criu-docker/containers"), empty(h.store()), noMounts("/run/criu-docker"))
	})
}

// forget removes all snapshots of a store.
func (h *host) forget(ctx context.Context, store string) error {
	refs, err := refs(ctx, store)
	if err != nil || len(refs) == 0 {
		return err
	}
	return quiet(ctx, "criu-docker", append([]string{"rm", "--store", store}, refs...)...)
}

// refs lists the snapshots of a store.
func refs(ctx context.Context, store string) ([]string, error) {
	list, err := output(ctx, "criu-docker", "ls", "--json", "--store", store)
	var refs []string
	for line := range strings.Lines(list) {
		var s struct{ Ref string }
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			return nil, err
		}
		refs = append(refs, s.Ref)
	}
	return refs, err
}

// empty reports files that are in a directory; markers of its owner are none.
func empty(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() || strings.HasPrefix(d.Name(), ".") || d.Name() == "lock":
			return nil
		}
		return fmt.Errorf("%s is left", path)
	})
}

func noMounts(below string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], below+"/") {
			return fmt.Errorf("%s is still mounted", fields[4])
		}
	}
	return nil
}

// versions are those of what decides whether a snapshot fits, by the names that the page has.
func (h *host) versions(ctx context.Context) (map[string]string, error) {
	versions := map[string]string{}
	for name, argv := range map[string][]string{
		"kernel": {"uname", "-r"},
		"docker": {"docker", "version", "-f", "{{.Server.Version}}"},
		"runc":   {"sh", "-c", "runc --version | sed -n '1s/runc version //p'"},
		"criu":   {"sh", "-c", "criu --version | sed -n 's/^Version: //p'"},
		"nomad":  {"sh", "-c", "nomad version | sed -n '1s/Nomad v//p'"},
	} {
		v, err := output(ctx, argv[0], argv[1:]...)
		if err != nil {
			return nil, err
		}
		versions[name] = v
	}
	return versions, nil
}
