package criu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/utsns"
	"google.golang.org/protobuf/proto"
)

// ErrNoUTS is returned where a checkpoint has no UTS namespace of its own, so that it has no hostname to change.
var ErrNoUTS = errors.New("no UTS namespace in the checkpoint")

const (
	utsPattern = "utsns-*.img"

	maxHostname = 64 // bytes, the kernel's __NEW_UTS_LEN
	// maxUTSImage bounds what is decoded; a genuine image holds two names of at most 64 bytes.
	maxUTSImage = 4096
)

// hostnamePattern is RFC 1123's, and underscores, which Docker accepts as well.
var hostnamePattern = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]*[a-zA-Z0-9_])?)*$`)

// ValidateHostname reports why a name can't be a container's hostname.
func ValidateHostname(hostname string) error {
	switch {
	case hostname == "":
		return errors.New("hostname is empty: give the clone a name, for example its container id")
	case len(hostname) > maxHostname:
		return fmt.Errorf("hostname %q has %d bytes: the kernel takes at most %d", hostname, len(hostname), maxHostname)
	case !hostnamePattern.MatchString(hostname):
		return fmt.Errorf("hostname %q: want letters, digits and inner hyphens, in parts separated by dots", hostname)
	}
	return nil
}

// HoldsHostname reports whether an image is one that SetHostname writes.
func HoldsHostname(name string) bool {
	ok, _ := filepath.Match(utsPattern, name)
	return ok
}

// SetHostname makes hostname the one that processes restored from imageDir have from their first instruction on.
// The images are replaced, never written to, so that others that share them by hard link keep theirs.
func SetHostname(imageDir, hostname string) error {
	if err := ValidateHostname(hostname); err != nil {
		return err
	}
	images, err := utsImages(imageDir)
	if err != nil {
		return err
	}
	for _, path := range images {
		if err := setNodename(path, hostname); err != nil {
			return fmt.Errorf("set hostname in %s: %w", path, err)
		}
	}
	return nil
}

// Hostname returns the hostname that is frozen in imageDir.
func Hostname(imageDir string) (string, error) {
	images, err := utsImages(imageDir)
	if err != nil {
		return "", err
	}
	img, err := readUTS(images[0])
	if err != nil {
		return "", fmt.Errorf("read hostname from %s: %w", images[0], err)
	}
	return img.Entries[0].Message.(*utsns.UtsnsEntry).GetNodename(), nil
}

// utsImages lists the images of UTS namespaces; there is at least one when it returns no error.
func utsImages(imageDir string) ([]string, error) {
	images, err := filepath.Glob(filepath.Join(imageDir, utsPattern))
	if err != nil {
		return nil, fmt.Errorf("list %s in %s: %w", utsPattern, imageDir, err)
	}
	if len(images) > 0 {
		return images, nil
	}
	if _, err := os.Stat(imageDir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("checkpoint directory: %w", err)
	}
	return nil, fmt.Errorf("%s has no %s: %w (was the donor started with --uts=host?)", imageDir, utsPattern, ErrNoUTS)
}

func setNodename(path, hostname string) error {
	img, err := readUTS(path)
	if err != nil {
		return err
	}
	for _, entry := range img.Entries {
		entry.Message.(*utsns.UtsnsEntry).Nodename = &hostname
	}
	return writeImage(path, img)
}

// readUTS decodes an image and makes sure that it has an entry.
func readUTS(path string) (*crit.CriuImage, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxUTSImage {
		return nil, fmt.Errorf("%d bytes are too many for this kind of image", info.Size())
	}
	img, err := crit.New(in, nil, "", false, false).Decode(&utsns.UtsnsEntry{})
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if img.Magic != "UTSNS" || len(img.Entries) == 0 {
		return nil, fmt.Errorf("not an image of a UTS namespace (magic %s, %d entries)", img.Magic, len(img.Entries))
	}
	// crit fills up with zeros what a truncated image lacks.
	if want := encodedSize(img); info.Size() != want {
		return nil, fmt.Errorf("%d bytes where its entries take %d: truncated or not written by CRIU", info.Size(), want)
	}
	return img, nil
}

// encodedSize is the length in bytes of an image's file: two magic numbers, then every entry with its length before it.
func encodedSize(img *crit.CriuImage) int64 {
	size := int64(2 * 4)
	for _, entry := range img.Entries {
		size += 4 + int64(proto.Size(entry.Message))
	}
	return size
}
