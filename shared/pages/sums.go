package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// ErrRotten is returned for a checkpoint that is not what it was when it was fetched.
var ErrRotten = errors.New("the checkpoint was damaged on this machine's disk")

// SumsName is a file beside the images of a checkpoint: checksums of all of their pages, by which damage is found before an app
// runs on it. Its links in the directories of clones are the same file. One that is empty condemns the checkpoint.
const SumsName = "page-sums"

// CRC-32C takes a fraction of a microsecond for a page; it is against disks and careless hands, not against forgers.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// WriteSums writes the checksums of a checkpoint that was just fetched.
func WriteSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var out []byte
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == SumsName {
			continue
		}
		var list []byte
		if err := eachPage(filepath.Join(dir, e.Name()), func(_ int64, page []byte) error {
			list = binary.LittleEndian.AppendUint32(list, crc32.Checksum(page, castagnoli))
			return nil
		}); err != nil {
			return err
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(e.Name())))
		out = append(out, e.Name()...)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(list)))
		out = append(out, list...)
	}
	return renameio.WriteFile(filepath.Join(dir, SumsName), out, 0o600, renameio.WithTempDir(filepath.Dir(dir)))
}

// sums are the checksums of a checkpoint: 4 bytes a page, by file.
type sums struct {
	dir    string
	byFile map[string][]byte
}

// readSums returns the checksums of a checkpoint; nil if there are none.
func readSums(dir string) (*sums, error) {
	b, err := os.ReadFile(filepath.Join(dir, SumsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: it is to be fetched anew", ErrRotten)
	}
	s := &sums{dir: dir, byFile: map[string][]byte{}}
	field := func() []byte {
		if len(b) < 4 {
			b = nil
			return nil
		}
		n := int64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		f := b[:min(n, int64(len(b)))]
		b = b[len(f):]
		return f
	}
	for len(b) > 0 {
		name := string(field())
		s.byFile[name] = field()
	}
	return s, nil
}

// check compares what was read of a file, from a page's beginning on. A checkpoint that is not as it was is condemned: it is
// not restored any more, and the cache fetches it anew.
func (s *sums) check(name string, offset int64, b []byte) error {
	if s == nil {
		return nil
	}
	list, known := s.byFile[name]
	if !known {
		return nil
	}
	for i := offset / pageSize; len(b) > 0; i++ {
		page := b[:min(pageSize, len(b))]
		b = b[len(page):]
		if 4*i+4 > int64(len(list)) || binary.LittleEndian.Uint32(list[4*i:]) != crc32.Checksum(page, castagnoli) {
			err := fmt.Errorf("%w: %s at %d is not what was fetched", ErrRotten, name, i*pageSize)
			return errors.Join(err, os.Truncate(filepath.Join(s.dir, SumsName), 0))
		}
	}
	return nil
}

// Check reads what CRIU itself reads of a checkpoint, all of it or, if its memory comes lazily, what a page server leaves to CRIU,
// and returns ErrRotten if that is not what was fetched. own are files that are the clone's own.
func Check(dir string, lazy bool, own func(name string) bool) error {
	s, err := readSums(dir)
	if s == nil || err != nil {
		return err
	}
	var eager []criu.PageRange
	if lazy {
		if eager, err = criu.EagerPages(dir); err != nil {
			return err
		}
	}
	for name := range s.byFile {
		if own(name) || lazy && isPageImage(name) {
			continue
		}
		if err := eachPage(filepath.Join(dir, name), func(offset int64, page []byte) error {
			return s.check(name, offset, page)
		}); err != nil {
			return err
		}
	}
	for _, r := range eager {
		f, err := os.Open(filepath.Join(dir, r.File))
		if err != nil {
			return err
		}
		err = eachPageOf(io.NewSectionReader(f, r.Offset, r.Length), r.Offset, func(offset int64, page []byte) error {
			return s.check(r.File, offset, page)
		})
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func isPageImage(name string) bool {
	ok, _ := filepath.Match("pages-*.img", name)
	return ok
}

func eachPage(file string, do func(offset int64, page []byte) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return eachPageOf(f, 0, do)
}

func eachPageOf(r io.Reader, offset int64, do func(offset int64, page []byte) error) error {
	b := make([]byte, 64*pageSize)
	for {
		n, err := io.ReadFull(r, b)
		for at := 0; at < n; at += pageSize {
			if err := do(offset+int64(at), b[at:min(at+pageSize, n)]); err != nil {
				return err
			}
		}
		offset += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
