package criu

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/google/renameio/v2"
	"google.golang.org/protobuf/proto"
)

// readImage decodes an image whose entries are of entry's type.
func readImage(path string, entry proto.Message) (*crit.CriuImage, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	img, err := crit.New(in, nil, "", false, false).Decode(entry)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return img, nil
}

// writeImage replaces an image. It never writes into the old file, which others may share by hard link.
func writeImage(path string, img *crit.CriuImage) error {
	out, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithExistingPermissions())
	if err != nil {
		return err
	}
	defer out.Cleanup() // nothing is left to clean up once the file is in place
	if err := crit.New(nil, out.File, "", false, false).Encode(img); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return out.CloseAtomicallyReplace()
}
