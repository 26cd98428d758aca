package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrUntrusted is returned by CheckTrust for a path that others may put something at.
var ErrUntrusted = errors.New("others may write to it, and so choose what runs from it")

// maxLinks bounds the symbolic links of one path, as the kernel does.
const maxLinks = 40

// CheckTrust returns ErrUntrusted if anybody but root and this process's user may write to a directory, or put another one, or a
// link, in its place. What of the path is not there yet is not looked at. A directory on the way may be one in which everybody can
// create names, but only remove his own (/tmp).
func CheckTrust(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return checkPath(abs, 0)
}

func checkPath(path string, links int) error {
	if links > maxLinks {
		return fmt.Errorf("%s: too many symbolic links", path)
	}
	at := "/"
	elems := strings.Split(strings.Trim(path, "/"), "/")
	if err := checkEntry(at, false); err != nil {
		return err
	}
	for i, elem := range elems {
		at = filepath.Join(at, elem)
		fi, err := os.Lstat(at)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if fi.Mode().Type() == fs.ModeSymlink {
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			if err := checkOwner(at, fi); err != nil {
				return err
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(at), target) // that has no link in it: it was walked
			}
			return checkPath(filepath.Join(append([]string{target}, elems[i+1:]...)...), links+1)
		}
		if err := checkEntry(at, i == len(elems)-1); err != nil {
			return err
		}
	}
	return nil
}

// checkEntry looks at one directory of a path.
func checkEntry(path string, last bool) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if err := checkOwner(path, fi); err != nil {
		return err
	}
	sticky := fi.Mode()&fs.ModeSticky != 0
	if fi.Mode().Perm()&0o022 != 0 && (last || !sticky) {
		return fmt.Errorf("%s: %w: its mode is %04o: take that away with chmod go-w", path, ErrUntrusted, fi.Mode().Perm())
	}
	return nil
}

func checkOwner(path string, fi fs.FileInfo) error {
	stat, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is not known", path)
	}
	if uid := int(stat.Uid); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("%s: %w: it belongs to user %d: name a store below directories of root", path, ErrUntrusted, uid)
	}
	return nil
}
