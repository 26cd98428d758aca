package owned_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/owned"
)

var kind = owned.Kind{Name: "heap", Version: 2, Known: func(entries map[string]fs.FileMode) bool {
	return len(entries) == 1 && entries["stones"] == fs.ModeDir
}}

func TestMake(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "a", "b")
	_, err := kind.Open(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoDirExists(t, path, "looking makes nothing")

	d, err := kind.Make(path)
	require.NoError(t, err)
	require.Equal(t, path, d.Path())
	require.FileExists(t, d.Path(".heap"))
	sub, err := d.Sub("x", "y")
	require.NoError(t, err)
	for _, dir := range []string{path, sub} {
		fi, err := os.Stat(dir)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o700), fi.Mode().Perm())
	}
	_, err = kind.Make(path)
	require.NoError(t, err, "again")
	_, err = kind.Open(path)
	require.NoError(t, err)
}

func TestMakeOfAnEmptyDirectory(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.Mkdir(path+"/lost+found", 0o700))
	require.NoError(t, os.WriteFile(path+"/..heap123", []byte("half"), 0o600), "of one who was killed")
	_, err := kind.Open(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = kind.Make(path)
	require.NoError(t, err)
	require.NoFileExists(t, path+"/..heap123")
}

// TestForeign: whatever is not ours is refused in a sentence, and stays as it is.
func TestForeign(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"a file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path+"/letter", []byte("dear"), 0o600))
		}, "not empty and has no .heap of criu-docker: name an empty or a new one"},
		"a directory of a known name and more": {func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path+"/stones", 0o700))
			require.NoError(t, os.Mkdir(path+"/sand", 0o700))
		}, "not empty"},
		"a link of a known name": {func(t *testing.T, path string) {
			require.NoError(t, os.Symlink("/", path+"/stones"))
		}, "not empty"},
		"another kind's marker": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path+"/.heap", []byte(`{"criu-docker-pile": 2}`), 0o600))
		}, ".heap is not one of criu-docker's"},
		"a pipe for a marker": {func(t *testing.T, path string) {
			require.NoError(t, unix.Mkfifo(path+"/.heap", 0o600))
		}, ".heap is not a file"},
		"a link for a marker": {func(t *testing.T, path string) {
			require.NoError(t, os.Symlink("letter", path+"/.heap"))
		}, ".heap is a link"},
		"a directory for a marker": {func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path+"/.heap", 0o700))
		}, ".heap is not a file"},
		"others may write": {func(t *testing.T, path string) {
			require.NoError(t, os.Chmod(path, 0o777))
		}, "others may write to it (mode 0777): take that away with chmod go-w"},
		"another's": {func(t *testing.T, path string) {
			require.NoError(t, os.Chown(path, 1234, 0))
		}, "it belongs to user 1234"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "d")
			require.NoError(t, os.Mkdir(path, 0o700))
			c.make(t, path)
			before := listing(t, path)
			_, err := kind.Make(path)
			require.ErrorIs(t, err, owned.ErrForeign)
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "heap directory "+path)
			require.Equal(t, before, listing(t, path))
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := kind.Make(file)
	require.ErrorIs(t, err, owned.ErrForeign)
	require.ErrorIs(t, err, unix.ENOTDIR)
}

func TestMarkedDirectoryThatOthersMayWriteTo(t *testing.T) {
	path := t.TempDir()
	_, err := kind.Make(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o770))
	_, err = kind.Open(path)
	require.ErrorIs(t, err, owned.ErrForeign)
	shared := kind
	shared.Shared = true
	_, err = shared.Open(path)
	require.NoError(t, err)
}

func TestAnotherVersion(t *testing.T) {
	path := t.TempDir()
	later := kind
	later.Version = 3
	_, err := later.Make(path)
	require.NoError(t, err)
	_, err = kind.Make(path)
	require.ErrorContains(t, err, "it has version 3, and this criu-docker knows version 2: update criu-docker")
}

func TestKnownContentIsMarkedOnce(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.Mkdir(path+"/stones", 0o700))
	_, err := kind.Open(path)
	require.NoError(t, err)
	require.NoFileExists(t, path+"/.heap", "looking changes nothing")
	_, err = kind.Make(path)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(path+"/sand", 0o700))
	_, err = kind.Make(path)
	require.NoError(t, err, "it has its marker now")
}

// TestMakeAtOnce: of many processes that make a directory and fill it at once, and of those that look at it, none takes it for foreign.
func TestMakeAtOnce(t *testing.T) {
	for range 50 {
		path := filepath.Join(t.TempDir(), "d")
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			all.Go(func() {
				if i%2 == 0 { // looks, until it is there
					for errs[i] = fs.ErrNotExist; errors.Is(errs[i], fs.ErrNotExist); {
						_, errs[i] = kind.Open(path)
					}
					return
				}
				d, err := kind.Make(path)
				if err == nil {
					_, err = d.Sub("sand")
				}
				errs[i] = err
			})
		}
		all.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		names := listing(t, path)
		require.Len(t, names, 2, "%v: the marker and what was put there", names)
	}
}

func TestNamesThatAreOurs(t *testing.T) {
	d, err := kind.Make(t.TempDir())
	require.NoError(t, err)
	sub, err := d.Sub("tmp")
	require.NoError(t, err)
	for _, dir := range []string{"run-1", "run-2x", "xrun-3", "run-44"} {
		require.NoError(t, os.Mkdir(filepath.Join(sub, dir), 0o700))
	}
	require.NoError(t, os.WriteFile(filepath.Join(sub, "run-5"), nil, 0o600))
	require.NoError(t, os.Symlink("/", filepath.Join(sub, "run-6")))
	require.NoError(t, unix.Mkfifo(filepath.Join(sub, "run-7"), 0o600))

	pattern := regexp.MustCompile(`^run-[0-9]+$`)
	dirs, err := d.Dirs("tmp", pattern)
	require.NoError(t, err)
	require.Equal(t, []string{"run-1", "run-44"}, dirs)
	files, err := d.Files("tmp", pattern)
	require.NoError(t, err)
	require.Equal(t, []string{"run-5"}, files)
	none, err := d.Dirs("absent", pattern)
	require.NoError(t, err)
	require.Empty(t, none)
}

func listing(t *testing.T, path string) map[string]fs.FileMode {
	entries, err := os.ReadDir(path)
	require.NoError(t, err)
	modes := map[string]fs.FileMode{}
	for _, e := range entries {
		modes[e.Name()] = e.Type()
	}
	return modes
}
