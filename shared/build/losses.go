package build

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/pkg/xattr"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// What clones lack, without any word from CRIU.

// unboundSockets warns of socket files that no process is bound to under that name: CRIU makes the files of bound sockets
// anew, and others are in no archive.
func unboundSockets(files []string, sockets []criu.Socket) []string {
	var warnings []string
	for _, file := range files {
		bound := slices.ContainsFunc(sockets, func(s criu.Socket) bool {
			if s.Protocol != "unix" || s.Source == "" {
				return false
			}
			return s.Source == file || !path.IsAbs(s.Source) && strings.HasSuffix(file, "/"+path.Clean(s.Source))
		})
		if !bound {
			warnings = append(warnings, fmt.Sprintf("clones lack the socket %s: no process is bound to it under that name; "+
				"if the app needs it, let it bind there instead of linking or renaming it into place (supervisord does so)", file))
		}
	}
	return warnings
}

// spinningFIFOs warns of FIFOs that are open and have no writers, where CRIU restores them so that their readers spin.
func spinningFIFOs(unwritten []string, version string) []string {
	if criu.Older(criu.LastSpinning, version) {
		return nil
	}
	var warnings []string
	for _, fifo := range unwritten {
		warnings = append(warnings, fmt.Sprintf("the app reads the FIFO %s, which no process of its container has open for writing: CRIU %s restores it so that "+
			"poll(2) returns at once, again and again, until a writer has come and gone; let the app keep it open for writing as well, or use a CRIU newer than %s",
			fifo, version, criu.LastSpinning))
	}
	return warnings
}

// largestHoles are how many bytes of a file may be holes without a word.
const largestHoles = 32 << 20

// lostOfLayer warns of files in the container's layer that an archive doesn't hold as they are: it has zeros where a file has holes, and
// none of the attributes that apps set (user.*).
func lostOfLayer(upper string) (warnings []string, err error) {
	var attributes []string
	err = filepath.WalkDir(upper, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() && !d.IsDir() {
			return err
		}
		inside := strings.TrimPrefix(name, upper)
		switch has, err := hasAttribute(name, "user."); {
		case err != nil:
			return err
		case has:
			attributes = append(attributes, inside)
		}
		info, err := d.Info()
		if err != nil || d.IsDir() {
			return err
		}
		used := info.Sys().(*syscall.Stat_t).Blocks * 512
		if info.Size()-used > largestHoles {
			warnings = append(warnings, fmt.Sprintf("%s has %d bytes, of which %d are in use: it is %d bytes on the disk of each clone, and in the "+
				"snapshot's layer before it is compressed; keep it on a volume or a tmpfs", inside, info.Size(), used, info.Size()))
		}
		return nil
	})
	if len(attributes) > 0 {
		warnings = append(warnings, fmt.Sprintf("clones lack the extended attributes (user.*) of %s; keep what has some on a volume",
			strings.Join(attributes, ", ")))
	}
	return warnings, err
}

// hasAttribute reports whether a file has an extended attribute whose name begins so.
func hasAttribute(name, prefix string) (bool, error) {
	names, err := xattr.LList(name)
	if err != nil && !errors.Is(err, syscall.ENOTSUP) {
		return false, fmt.Errorf("extended attributes: %w", err)
	}
	return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) }), nil
}
