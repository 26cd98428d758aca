// Package mountfiles carries what an app held open on volumes and bind mounts from a donor to its clones: it keeps the files when the
// donor is frozen, and places them where a clone's mounts lack them.
//
// Donors, stores and mounts are hostile. Whatever is opened on a mount is opened beneath the mount's root, through no symbolic link and
// into no other file system; whatever is read of an archive is checked; and nothing that exists is ever written to or replaced.
package mountfiles

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Bounds of an archive. Readers hold archives to them.
const (
	MaxBytes   = 64 << 20 // of all files together
	MaxEntries = 1024     // files and directories
	MaxName    = 4095     // bytes of a path
	// MaxLength is what an archive within these bounds has at most, bytes: for each entry a header of pax and one of tar, with the path
	// in both, and padding.
	MaxLength = MaxBytes + MaxEntries*(4*512+2*4096) + 1<<20
)

// ErrDamaged is wrapped by errors that say that an archive is not what it has to be.
var ErrDamaged = errors.New("the snapshot's files of mounts are damaged")

// Modes that entries may have. What would give a user additional rights (set-user-id and the like) is never placed.
const (
	fileModes = 0o777
	dirModes  = 0o1777
)

// Entry is a file or a directory of an archive.
type Entry struct {
	Path     string // in the container, absolute and clean
	Dir      bool
	Mode     uint32 // permissions, of directories with the sticky bit
	UID, GID uint32
	Size     int64 // bytes
	ModTime  time.Time
}

func (e Entry) header() *tar.Header {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(e.Path, "/"), Size: e.Size, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID),
		ModTime: e.ModTime, Format: tar.FormatPAX,
	}
	if e.Dir {
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	}
	return h
}

// Read reads an archive to its end and checks it. It calls each for every entry, in the archive's order, with what a file holds; each
// need not read it. Errors of the archive wrap ErrDamaged, those of r don't.
func Read(r io.Reader, each func(Entry, io.Reader) error) error {
	a := &archiveReader{r: r}
	tr := tar.NewReader(a)
	seen, left := map[string]bool{}, int64(MaxBytes)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return a.judge(err)
		}
		e, err := parseHeader(h)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if left -= e.Size; left < 0 { // before a byte is read: a sparse entry may claim any size
			return fmt.Errorf("%w: they have more than %d bytes", ErrDamaged, MaxBytes)
		}
		if seen[e.Path] || len(seen) == MaxEntries {
			return fmt.Errorf("%w: %q is there twice, or there are more than %d entries", ErrDamaged, e.Path, MaxEntries)
		}
		seen[e.Path] = true
		content := &archiveReader{r: tr}
		if err := each(e, content); err != nil {
			if content.err != nil && errors.Is(err, content.err) {
				return a.judge(err)
			}
			return err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return a.judge(err)
		}
	}
}

func parseHeader(h *tar.Header) (Entry, error) {
	e := Entry{
		Path: "/" + strings.TrimSuffix(h.Name, "/"), Dir: h.Typeflag == tar.TypeDir, Mode: uint32(h.Mode), Size: h.Size, ModTime: h.ModTime,
		UID: uint32(h.Uid), GID: uint32(h.Gid),
	}
	const nobody = 1<<32 - 1 // means "leave it" to chown(2)
	modes := int64(fileModes)
	if e.Dir {
		modes = dirModes
	}
	switch {
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
		return e, fmt.Errorf("%q has type %q, and is neither a file nor a directory", h.Name, h.Typeflag)
	case e.Path == "/" || len(e.Path) > MaxName || path.Clean(e.Path) != e.Path || strings.ContainsRune(e.Path, 0) || strings.HasSuffix(h.Name, "/") != e.Dir:
		return e, fmt.Errorf("%q is not the path of a file in a container", h.Name)
	case h.Mode&^modes != 0:
		return e, fmt.Errorf("%q has mode %o, which is not placed", h.Name, h.Mode)
	case h.Uid < 0 || h.Uid >= nobody || h.Gid < 0 || h.Gid >= nobody:
		return e, fmt.Errorf("%q belongs to %d:%d, which can't be", h.Name, h.Uid, h.Gid)
	case e.Size < 0 || e.Dir && e.Size > 0:
		return e, fmt.Errorf("%q has %d bytes", h.Name, e.Size)
	case h.ModTime.Year() < 1970 || h.ModTime.Year() > 2400:
		return e, fmt.Errorf("%q was changed in the year %d", h.Name, h.ModTime.Year())
	}
	for _, name := range strings.Split(e.Path[1:], "/") {
		if len(name) > 255 {
			return e, fmt.Errorf("%.20q… is longer than a name can be", name)
		}
	}
	return e, nil
}

// archiveReader tells errors of reading from errors of the archive.
type archiveReader struct {
	r   io.Reader
	err error
}

func (a *archiveReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		a.err = err
	}
	return n, err
}

func (a *archiveReader) judge(err error) error {
	if a.err != nil {
		return a.err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// beneath returns a path relative to a mount's root; false if it is not beneath it, or is the root.
func beneath(mount, name string) (string, bool) {
	rel, ok := strings.CutPrefix(name, strings.TrimSuffix(mount, "/")+"/")
	return rel, ok && rel != ""
}
