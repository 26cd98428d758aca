package build

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

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

// spinningFIFOs warns of FIFOs that are open, where CRIU restores them so that their readers spin.
func spinningFIFOs(files []criu.OpenFile, version string) []string {
	if criu.Older(criu.LastSpinning, version) {
		return nil
	}
	var warnings []string
	for _, f := range files {
		if f.Type == "fifo" {
			warnings = append(warnings, fmt.Sprintf("process %d reads or writes the FIFO %s: CRIU %s restores one without writers so that "+
				"poll(2) returns at once, again and again, until a writer has come and gone; one newer than %s does not", f.PID, f.Path, version, criu.LastSpinning))
		}
	}
	return warnings
}

// largestHoles are how many bytes of a file may be holes without a word.
const largestHoles = 32 << 20

// sparseFiles warns of files in the container's layer that are larger in a snapshot: an archive has zeros where a file has holes.
func sparseFiles(upper string) (warnings []string, err error) {
	err = filepath.WalkDir(upper, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		used := info.Sys().(*syscall.Stat_t).Blocks * 512
		if info.Size()-used > largestHoles {
			warnings = append(warnings, fmt.Sprintf("%s has %d bytes, of which %d are in use: it is %d bytes on the disk of each clone, and in the "+
				"snapshot's layer before it is compressed; keep it on a volume or a tmpfs", strings.TrimPrefix(name, upper), info.Size(), used, info.Size()))
		}
		return nil
	})
	return warnings, err
}
