package runtimeinstall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// backupSuffix names the file beside daemon.json that holds it as it was before Install. An empty one means that
// there was no daemon.json.
const backupSuffix = ".before-criu-docker"

// config is dockerd's daemon.json.
type config struct {
	path     string // with symbolic links resolved
	original []byte // empty if there is no file
	exists   bool
	doc      *document
}

func readConfig(path string) (*config, error) {
	resolved, err := filepath.EvalSymlinks(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		resolved = path
	case err != nil:
		return nil, err
	}
	c := &config{path: resolved}
	c.original, err = os.ReadFile(resolved)
	switch {
	case err == nil:
		c.exists = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if c.doc, err = parseDocument(c.original); err != nil {
		return nil, fmt.Errorf("%s: %w: correct it first; nothing was changed", resolved, err)
	}
	return c, nil
}

const (
	keyRuntimes     = "runtimes"
	keyExperimental = "experimental"
)

// register puts the runtime in, and experimental mode if asked to, and reports whether that changed anything.
func (c *config) register(binary string, experimental bool) (bool, error) {
	switch path, registered, err := c.registered(); {
	case err != nil:
		return false, err
	case registered && path != binary:
		return false, fmt.Errorf("%w: %s registers runtime %q with path %q, not %q: remove that entry, or install there (--binary)",
			ErrConflict, c.path, engine.RuntimeName, path, binary)
	case !registered:
		if err := c.doc.set(map[string]string{"path": binary}, keyRuntimes, engine.RuntimeName); err != nil {
			return false, fmt.Errorf("%s: %w", c.path, err)
		}
	}
	if experimental && c.doc.get(keyExperimental) != "true" {
		if err := c.doc.set(true, keyExperimental); err != nil {
			return false, fmt.Errorf("%s: %w", c.path, err)
		}
	}
	return c.changed(), nil
}

// unregister takes out what register put in: the backup tells what was there before.
func (c *config) unregister(binary string) (bool, error) {
	path, registered, err := c.registered()
	if err != nil {
		return false, err
	}
	if registered && path != binary {
		return false, fmt.Errorf("%w: %s registers runtime %q with path %q, not %q: remove that entry yourself, or name its path (--binary)",
			ErrConflict, c.path, engine.RuntimeName, path, binary)
	}
	c.doc.remove(keyRuntimes, engine.RuntimeName)
	before, err := c.readBackup()
	if err != nil {
		return false, err
	}
	if before == nil {
		return c.changed(), nil // not installed by us, or uninstalled already: who set the rest is unknown
	}
	switch before.get(keyExperimental) {
	case "":
		c.doc.remove(keyExperimental)
	case "false":
		if err := c.doc.set(false, keyExperimental); err != nil {
			return false, fmt.Errorf("%s: %w", c.path, err)
		}
	}
	return c.changed(), nil
}

// tidy removes the list of runtimes that unregister has emptied, unless it was there, empty, before the installation.
// dockerd must have read the empty list by then: it takes a missing one for no change.
func (c *config) tidy() (bool, error) {
	before, err := c.readBackup()
	if err != nil || before == nil {
		return false, err
	}
	if before.get(keyRuntimes) == "" && c.doc.get(keyRuntimes) == "{}" {
		c.doc.remove(keyRuntimes)
		return true, nil
	}
	return false, nil
}

// readBackup returns the configuration as it was before the installation; nil if that is unknown.
func (c *config) readBackup() (*document, error) {
	before, err := os.ReadFile(c.path + backupSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(before)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", c.path, backupSuffix, err)
	}
	return doc, nil
}

// registered returns the path that the runtime is registered with.
func (c *config) registered() (path string, ok bool, err error) {
	raw := c.doc.get(keyRuntimes, engine.RuntimeName)
	if raw == "" {
		return "", false, nil
	}
	var entry struct {
		Path string `json:"path"`
	}
	if err := json.Unmarshal([]byte(raw), &entry); err != nil {
		return "", false, fmt.Errorf("%s: runtime %q: %w", c.path, engine.RuntimeName, err)
	}
	return entry.Path, true, nil
}

func (c *config) changed() bool {
	return !bytes.Equal(c.bytes(), c.original) && (c.exists || !c.doc.empty())
}

func (c *config) bytes() []byte { return c.doc.bytes() }

// backup keeps the file as it was, unless an earlier installation has already done so.
func (c *config) backup() error {
	path := c.path + backupSuffix
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(path, c.original, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

func (c *config) removeBackup() error {
	if err := os.Remove(c.path + backupSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write replaces the file, keeping its mode and owner; one that the installation had made is removed when nothing is
// left in it.
func (c *config) write() error {
	before, err := os.ReadFile(c.path + backupSuffix)
	if err == nil && len(before) == 0 && c.doc.empty() {
		return os.Remove(c.path)
	}
	out, err := renameio.NewPendingFile(c.path, renameio.WithTempDir(filepath.Dir(c.path)),
		renameio.WithPermissions(0o644), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer out.Cleanup() // nothing is left to clean up once the file is in place
	if err := copyOwner(out.File, c.path); err != nil {
		return err
	}
	if _, err := out.Write(c.bytes()); err != nil {
		return err
	}
	return out.CloseAtomicallyReplace()
}
