// Package owned tells our directories from all others. Each of ours has a marker, a file with its kind and version. A directory that lacks
// one is made ours only while it is empty, so that nothing is ever swept that others have put there.
package owned

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// ErrForeign is returned for a directory that is not ours, or not ours alone. Nothing in it was touched.
var ErrForeign = errors.New("the directory is not ours")

// Modes of what we keep, unless something is said to the contrary.
const (
	FileMode fs.FileMode = 0o600
	DirMode  fs.FileMode = 0o700
)

// Kind is a sort of directories with one layout.
type Kind struct {
	// Name is a word: the marker is called ".NAME" and holds {"criu-docker-NAME": VERSION}.
	Name    string
	Version int
	// Mode is that of new directories of this kind; 0 means 0700, since memory images hold secrets. Those in them have 0700.
	Mode fs.FileMode
	// Shared lets others than this process's user own the directory or write to it: the caller decides on that.
	Shared bool
	// Known, if set, recognises the content of a directory that an earlier version made without a marker, by the types of its
	// entries by name.
	Known func(entries map[string]fs.FileMode) bool
}

// Dir is a directory that is ours.
type Dir struct {
	path string // absolute
}

// Make returns the directory at path. It creates and marks what is not there, marks what is empty or known, and returns ErrForeign
// for everything else.
func (k Kind) Make(path string) (Dir, error) {
	d, err := k.dir(path)
	if err == nil {
		err = k.readMarker(d)
	}
	switch {
	case err == nil:
		err = k.check(d)
	case errors.Is(err, fs.ErrNotExist):
		if err = k.mkdir(d); err == nil {
			err = k.check(d)
		}
		if err == nil {
			err = k.claim(d)
		}
	}
	if err != nil {
		return Dir{}, k.explain(path, err)
	}
	return d, nil
}

// Open returns the directory at path if it is there and ours: fs.ErrNotExist if there is none or an empty one, ErrForeign if it is
// not ours. Nothing is changed.
func (k Kind) Open(path string) (Dir, error) {
	d, err := k.dir(path)
	if err == nil {
		err = k.readMarker(d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		var empty bool
		if empty, err = k.vacant(d); empty {
			err = fs.ErrNotExist
		}
	}
	if err == nil {
		err = k.check(d)
	}
	if err != nil {
		return Dir{}, k.explain(path, err)
	}
	return d, nil
}

// Path is that of what elem names in the directory.
func (d Dir) Path(elem ...string) string { return filepath.Join(append([]string{d.path}, elem...)...) }

// Sub makes a directory in it, if needed, and returns its path.
func (d Dir) Sub(elem ...string) (string, error) {
	path := d.Path(elem...)
	if err := os.MkdirAll(path, DirMode); err != nil {
		return "", err
	}
	return path, nil
}

// Dirs returns the names in a directory of it that are directories and match pattern, which is anchored, and Files the same of
// regular files. Whatever else lies there is not ours. Neither follows links. What is not there is empty.
func (d Dir) Dirs(sub string, pattern *regexp.Regexp) ([]string, error) {
	return d.names(sub, pattern, fs.ModeDir)
}

// Files is described with Dirs.
func (d Dir) Files(sub string, pattern *regexp.Regexp) ([]string, error) {
	return d.names(sub, pattern, 0)
}

func (d Dir) names(sub string, pattern *regexp.Regexp, kind fs.FileMode) ([]string, error) {
	entries, err := os.ReadDir(d.Path(sub))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type() == kind && pattern.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (k Kind) marker() string  { return "." + k.Name }
func (k Kind) content() string { return fmt.Sprintf("{%q: %d}\n", k.key(), k.Version) }
func (k Kind) key() string     { return "criu-docker-" + k.Name }

// unfinished is the beginning of the names of markers that are being written.
func (k Kind) unfinished() string { return "." + k.marker() }

func (k Kind) dir(path string) (Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Dir{}, k.explain(path, err)
	}
	return Dir{path: abs}, nil
}

func (k Kind) mkdir(d Dir) error {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil { // which is not ours
		return err
	}
	mode := cmp.Or(k.Mode, DirMode)
	if err := os.Mkdir(d.path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (k Kind) explain(path string, err error) error {
	return fmt.Errorf("%s directory %s: %w", k.Name, path, err)
}

// check finds a directory in which others could lay something under a name of ours.
func (k Kind) check(d Dir) error {
	if k.Shared {
		return nil
	}
	var stat unix.Stat_t
	if err := unix.Stat(d.path, &stat); err != nil {
		return err
	}
	if int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: it belongs to user %d: name one of user %d", ErrForeign, stat.Uid, os.Geteuid())
	}
	if stat.Mode&0o022 != 0 {
		return fmt.Errorf("%w alone: others may write to it (mode %04o): take that away with chmod go-w", ErrForeign, stat.Mode&0o7777)
	}
	return nil
}

// claim marks a directory that is vacant.
func (k Kind) claim(d Dir) error {
	if _, err := k.vacant(d); err != nil {
		return err
	}
	err := renameio.WriteFile(d.Path(k.marker()), []byte(k.content()), FileMode, renameio.WithTempDir(d.path))
	if err != nil && k.readMarker(d) != nil {
		return err
	}
	leftovers, err := d.Files("", regexp.MustCompile("^"+regexp.QuoteMeta(k.unfinished())))
	if err != nil {
		return err
	}
	for _, file := range leftovers { // of processes that were killed; one that lives finds our marker
		if err := os.Remove(d.Path(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, dir := range []string{d.path, filepath.Dir(d.path)} {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// readMarker returns nil for a directory of this kind and version, and fs.ErrNotExist for one without a marker.
func (k Kind) readMarker(d Dir) error {
	// A pipe of this name must not hold us up, nor a link lead elsewhere.
	f, err := os.OpenFile(d.Path(k.marker()), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: %w: name an empty or a new one", ErrForeign, err)
	}
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%w: its %s is a link", ErrForeign, k.marker())
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%w: its %s is not a file", ErrForeign, k.marker())
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return err
	}
	var content map[string]int
	version := 0
	if json.Unmarshal(b, &content) == nil {
		version = content[k.key()]
	}
	switch {
	case version == 0:
		return fmt.Errorf("%w: its %s is not one of criu-docker's", ErrForeign, k.marker())
	case version != k.Version:
		return fmt.Errorf("it has version %d, and this criu-docker knows version %d: update criu-docker, or name another directory", version, k.Version)
	}
	return nil
}

// vacant returns an error for a directory without a marker that may not get one, and reports whether there is nothing in it.
func (k Kind) vacant(d Dir) (empty bool, err error) {
	list, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	entries := map[string]fs.FileMode{}
	for _, e := range list {
		if e.Name() == "lost+found" || strings.HasPrefix(e.Name(), k.unfinished()) { // a file system's, and a marker to be
			continue
		}
		entries[e.Name()] = e.Type()
	}
	if len(entries) == 0 || k.Known != nil && k.Known(entries) {
		return len(entries) == 0, nil
	}
	// Another process may have marked it since we looked, and filled it.
	if err := k.readMarker(d); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return false, fmt.Errorf("%w: it is not empty and has no %s of criu-docker: name an empty or a new one", ErrForeign, k.marker())
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // of a file system without
		return fmt.Errorf("making %s durable: %w", path, err)
	}
	return nil
}
