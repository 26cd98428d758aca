package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/criu-docker/criu-docker/shared/version"
)

// release is one run.
type release struct {
	commit, out, key string
	draft            bool // only what can be installed
	tools            struct{ nfpm, licenses, cyclonedx string }

	source  string    // a clone of the repository at that commit
	staged  string    // what is to become out, complete or not at all
	version string    // what the binaries say
	date    time.Time // of the commit: nothing in a release is younger
}

// products are the programs, by package directory.
var products = []product{
	{name: "criu-docker", dirs: []string{"./shared/cmd/criu-docker", "./shared/cmd/criu-docker-runc"}},
	{name: "nomad-driver-criu-docker", dirs: []string{"./nomad-driver"}},
	{name: providerName, dirs: []string{"./provider"}},
}

// product is what is packed together.
type product struct {
	name string
	dirs []string // its main packages
}

// binaries are the names of its programs, in the order of dirs.
func (p product) binaries() []string {
	if len(p.dirs) == 1 {
		return []string{p.name}
	}
	var names []string
	for _, dir := range p.dirs {
		names = append(names, filepath.Base(dir))
	}
	return names
}

func (r *release) run(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Dir(r.out), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(r.out), ".release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if work, err = filepath.Abs(work); err != nil {
		return err
	}
	r.source, r.staged = filepath.Join(work, "source"), filepath.Join(work, "release")
	for _, step := range []struct {
		name   string
		do     func(context.Context) error
		always bool // in a draft too
	}{
		{"clone", r.clone, true},
		{"build", r.build, true},
		{"manuals", r.writeManuals, true},
		{"notices", r.writeNotices, true},
		{"changelog", r.writeChangelogs, true},
		{"packages", r.pack, true},
		{"archives", r.archive, false},
		{"provider", r.layOutProvider, false},
		{"bills of materials", r.writeBills, false},
		{"checksums", r.sum, false},
	} {
		if r.draft && !step.always {
			continue
		}
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	return os.Rename(r.staged, r.out)
}

// clone also has Go find a repository where a linked worktree, which it doesn't know, would have left the version out.
func (r *release) clone(ctx context.Context) error {
	top, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	commit, err := output(ctx, ".", "git", "rev-parse", "--verify", r.commit+"^{commit}")
	if err != nil {
		return err
	}
	if _, err := output(ctx, ".", "git", "clone", "--quiet", "--shared", "--no-checkout", top, r.source); err != nil {
		return err
	}
	_, err = output(ctx, r.source, "git", "-c", "core.autocrlf=false", "checkout", "--quiet", "--detach", commit)
	return err
}

func (r *release) build(ctx context.Context) error {
	for _, p := range products {
		for i, dir := range p.dirs {
			if err := r.goCommand(ctx, "build", "-trimpath", "-buildvcs=true", "-tags", "disable_grpc_modules", "-ldflags", "-s -w",
				"-o", filepath.Join("out/bin", p.binaries()[i]), dir); err != nil {
				return err
			}
		}
	}
	info, err := buildinfo.ReadFile(filepath.Join(r.source, "out/bin/criu-docker"))
	if err != nil {
		return err
	}
	about := version.Of(info)
	if about.Version == version.Development || about.Modified {
		return fmt.Errorf("version %q, modified = %t: want that of a commit, from a clone that Git and Go can read", about.Version, about.Modified)
	}
	r.version = about.Version
	r.date, err = time.Parse(time.RFC3339, about.Date)
	return err
}

// goCommand runs Go in the clone, with what would make a difference set.
func (r *release) goCommand(ctx context.Context, args ...string) error {
	_, err := output(ctx, r.source, "env", append([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "go"}, args...)...)
	return err
}

// output runs a program and returns what it prints, without the end of the last line. Times in what it makes are the commit's.
func (r *release) output(ctx context.Context, name string, args ...string) (string, error) {
	return output(ctx, r.source, "env", append([]string{
		"SOURCE_DATE_EPOCH=" + strconv.FormatInt(r.date.Unix(), 10), "VERSION=" + r.version, "TZ=UTC", "GOFLAGS=", name,
	}, args...)...)
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.Bytes())
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}
