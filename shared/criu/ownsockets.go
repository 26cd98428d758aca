package criu

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
)

// filesImage describes all open files of all processes.
const filesImage = "files.img"

// HoldsSockets reports whether an image is the one that WriteSockets writes.
func HoldsSockets(name string) bool { return name == filesImage }

// WriteSockets reads the image of the open files in imageDir and writes it to the directory `to`, with internet sockets moved to other
// addresses: move returns those of the socket's two ends. One that is not valid leaves the end as it is.
func WriteSockets(imageDir, to string, move func(Socket) (source, dest netip.Addr)) error {
	from := filepath.Join(imageDir, filesImage)
	img, err := readImage(from, &fdinfo.FileEntry{})
	if err != nil {
		return fmt.Errorf("sockets in %s: %w", from, err)
	}
	for _, e := range img.Entries {
		file := e.Message.(*fdinfo.FileEntry)
		sk := file.GetIsk()
		if sk == nil {
			continue
		}
		s, _ := describeSocket(file)
		source, dest := move(s)
		if source.IsValid() && source.IsUnspecified() && len(sk.SrcAddr) > 1 && !mapped(sk.SrcAddr) {
			only := true // its address was of IPv6, and nothing else is to reach it
			sk.V6Only = &only
		}
		setAddress(sk.SrcAddr, source)
		setAddress(sk.DstAddr, dest)
	}
	out, err := os.OpenFile(filepath.Join(to, filesImage), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := crit.New(nil, out, "", false, false).Encode(img); err != nil {
		return fmt.Errorf("sockets in %s: encode: %w", from, err)
	}
	return out.Close()
}

// mappedPrefix begins an IPv4 address that is written as one of IPv6.
var mappedPrefix = []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}

func mapped(words []uint32) bool {
	const v6Words = 4
	return len(words) == v6Words && words[0] == 0 && words[1] == 0 && words[2] == binary.LittleEndian.Uint32(mappedPrefix[8:])
}

// setAddress writes an address into the words that CRIU has for it, as a mapped one where those are of IPv6 and it is not. The
// unspecified one becomes that of the address that was there.
func setAddress(words []uint32, addr netip.Addr) {
	if !addr.IsValid() {
		return
	}
	var b []byte
	switch {
	case addr.IsUnspecified() && mapped(words):
		b = slices.Concat(mappedPrefix, make([]byte, 4))
	case addr.IsUnspecified():
		b = make([]byte, 4*len(words))
	case len(words) == 1:
		v4 := addr.Unmap().As4()
		b = v4[:]
	default:
		v6 := addr.As16()
		b = v6[:]
	}
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
}
