package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerFile is an entry of a snapshot's container-layer delta, or of its files of mounts.
type LayerFile struct {
	Path     string // in the container
	Deleted  bool   // a file of the image's that is gone
	Opaque   bool   // a directory that hides what the image has in it
	Mode     fs.FileMode
	UID, GID int
	Size     int64
	Target   string        // of a link
	Content  digest.Digest // of bytes and extended attributes
}

// maxListing bounds what a list of a layer's files takes in memory, bytes: a layer may claim any number of them.
const maxListing = 256 << 20

// LayerFiles reads the container-layer delta and the files of mounts of a snapshot that Load has read, and lists what is in them, in their
// order. Nothing is written anywhere.
func LayerFiles(ctx context.Context, src BlobReader, m ocispec.Manifest, cfg Config) ([]LayerFile, error) {
	plan, err := planUnpack(m, cfg)
	if err != nil {
		return nil, err
	}
	var list []LayerFile
	if plan.rootfs != nil {
		err = readTar(ctx, src, *plan.rootfs, func(r io.Reader) (err error) {
			list, err = listTar(r, cfg.Sizes.Rootfs, maxListing)
			return err
		})
		if err != nil {
			return nil, inLayer(*plan.rootfs, err)
		}
	}
	if plan.mountFiles != nil {
		var more []LayerFile
		err = readTar(ctx, src, *plan.mountFiles, func(r io.Reader) (err error) {
			more, err = listTar(r, cfg.Sizes.MountFiles, maxListing)
			return err
		})
		if err != nil {
			return nil, inLayer(*plan.mountFiles, err)
		}
		list = append(list, more...)
	}
	return list, nil
}

// listTar lists the files of a tar, which have `left` bytes together at most, in not much more memory than given.
func listTar(r io.Reader, left, memory int64) ([]LayerFile, error) {
	var list []LayerFile
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, corruptTar(err)
		}
		if left -= h.Size; left < 0 { // before a byte is read: a sparse entry may claim any size
			return nil, fmt.Errorf("%w: its files have more bytes than the config says", ErrCorrupt)
		}
		const each = 256
		if memory -= int64(len(h.Name)+len(h.Linkname)) + each; memory < 0 {
			return nil, errors.New("it has too many files to list them")
		}
		f, err := describeEntry(h, tarErrors{tr})
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
}

func describeEntry(h *tar.Header, content io.Reader) (LayerFile, error) {
	dir, name := path.Split(path.Join("/", h.Name)) //nolint:gosec // nothing is extracted
	switch hidden, whiteout := strings.CutPrefix(name, ".wh."); {
	case whiteout && hidden == ".wh..opq":
		return LayerFile{Path: path.Clean(dir), Opaque: true}, nil
	case whiteout:
		return LayerFile{Path: dir + hidden, Deleted: true}, nil
	}
	sum := digest.SHA256.Digester()
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			fmt.Fprintf(sum.Hash(), "%q=%q\n", key, h.PAXRecords[key])
		}
	}
	if _, err := io.Copy(sum.Hash(), content); err != nil {
		return LayerFile{}, fmt.Errorf("%q: %w", h.Name, err)
	}
	return LayerFile{
		Path: dir + name, Mode: h.FileInfo().Mode(), UID: h.Uid, GID: h.Gid, Size: h.Size, Target: h.Linkname, Content: sum.Digest(),
	}, nil
}
