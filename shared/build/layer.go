package build

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/go-archive"
	"github.com/moby/go-archive/compression"

	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// captureLayer writes a container's layer as an uncompressed OCI layer to file. It returns "" if the layer is empty. An
// archive has no place for unix sockets: the paths of their files are returned, as the container sees them.
func captureLayer(upper, file string) (name string, sockets []string, err error) {
	fail := func(err error) (string, []string, error) { return "", nil, fmt.Errorf("container layer: %w", err) }
	want, sockets, err := listLayer(upper)
	if err != nil {
		return fail(err)
	}
	if len(want) == 0 {
		return "", sockets, nil
	}
	exclude := []string{ociruntime.IdentityName}
	for _, s := range sockets {
		exclude = append(exclude, escapePattern.Replace(strings.TrimPrefix(s, "/")))
	}
	layer, err := archive.TarWithOptions(upper, &archive.TarOptions{
		Compression:     compression.None,
		WhiteoutFormat:  archive.OverlayWhiteoutFormat,
		ExcludePatterns: exclude,
	})
	if err != nil {
		return fail(err)
	}
	defer layer.Close()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	copied := io.TeeReader(layer, f)
	err = checkLayer(copied, want)
	if err == nil {
		_, err = io.Copy(io.Discard, copied) // what follows the end of the archive
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	return file, sockets, nil
}

var escapePattern = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `!`, `\!`)

// listLayer returns the paths of all files below dir, relative to it, and apart from them those of unix sockets, with a "/"
// before them.
func listLayer(dir string) (files, sockets []string, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		switch {
		case err != nil:
			return err
		case rel == ociruntime.IdentityName: // each container has its own
		case d.Type()&fs.ModeSocket != 0:
			sockets = append(sockets, "/"+rel)
		case rel != ".":
			files = append(files, rel)
		}
		return nil
	})
	return files, sockets, err
}

// checkLayer reads a layer to its end and returns an error if a wanted file is not in it: the library that makes the archive
// only logs what it could not read, and goes on.
func checkLayer(r io.Reader, want []string) error {
	have := map[string]bool{}
	for archived := tar.NewReader(r); ; {
		h, err := archived.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, err = io.Copy(io.Discard, archived) //nolint:gosec // nothing is compressed
		}
		if err != nil {
			return fmt.Errorf("a file could not be read as a whole: %w", err)
		}
		have[strings.TrimSuffix(h.Name, "/")] = true
	}
	for _, name := range want {
		if !have[name] && !have[path.Join(path.Dir(name), archive.WhiteoutPrefix+path.Base(name))] {
			return fmt.Errorf("/%s could not be read: the reason is in the log", name)
		}
	}
	return nil
}
