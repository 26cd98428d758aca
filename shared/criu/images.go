package criu

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	core "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fs"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"google.golang.org/protobuf/proto"
)

const pageSize = 4096

// imageDir reads CRIU's images in one directory. crit's own Explore functions keep what they read in variables of
// their package, so that two checkpoints can't be explored at the same time; this type takes only the decoding from crit.
type imageDir struct {
	path  string
	files map[uint32]*fdinfo.FileEntry // files.img by id; nil until it is needed
}

// task is a process as its images describe it.
type task struct {
	pid     uint32
	parent  uint32 // 0 for the root of the tree
	command string
	rss     int64 // bytes
	alive   bool  // it has memory and descriptors: neither zombie nor helper
}

// tasks returns the processes by pid.
func (d *imageDir) tasks() (map[uint32]task, error) {
	tree, err := decode(d, "pstree.img", &pstree.PstreeEntry{})
	if err != nil {
		return nil, err
	}
	tasks := make(map[uint32]task, len(tree))
	for _, entry := range tree {
		t := task{pid: entry.GetPid(), parent: entry.GetPpid()}
		c, err := decodeOne(d, fmt.Sprintf("core-%d.img", t.pid), &core.CoreEntry{})
		if err != nil {
			return nil, err
		}
		t.command = c.GetTc().GetComm()
		t.alive = crit.TaskState(c.GetTc().GetTaskState()).IsAliveOrStopped()
		if t.alive {
			if t.rss, err = d.resident(t.pid); err != nil {
				return nil, err
			}
		}
		tasks[t.pid] = t
	}
	for _, t := range tasks {
		if _, ok := tasks[t.parent]; !ok && t.parent != 0 {
			return nil, fmt.Errorf("pstree.img: process %d has parent %d, which is not in it", t.pid, t.parent)
		}
	}
	return tasks, nil
}

// resident returns the bytes of memory that are frozen for a process.
func (d *imageDir) resident(pid uint32) (int64, error) {
	img, err := d.image(fmt.Sprintf("pagemap-%d.img", pid), &pagemap.PagemapEntry{})
	if err != nil {
		return 0, err
	}
	var pages uint64
	for _, entry := range img.Entries {
		// The first entry is a PagemapHead.
		if e, ok := entry.Message.(*pagemap.PagemapEntry); ok {
			pages += max(e.GetNrPages(), uint64(e.GetCompatNrPages()))
		}
	}
	return int64(pages) * pageSize, nil
}

// descriptors adds the open files and sockets of a process to ckpt.
func (d *imageDir) descriptors(t task, ckpt *Checkpoint) error {
	if !t.alive {
		return nil
	}
	ids, err := decodeOne(d, fmt.Sprintf("ids-%d.img", t.pid), &core.TaskKobjIdsEntry{})
	if err != nil {
		return err
	}
	open, err := decode(d, fmt.Sprintf("fdinfo-%d.img", ids.GetFilesId()), &fdinfo.FdinfoEntry{})
	if err != nil {
		return err
	}
	for _, fd := range open {
		file, err := d.file(fd.GetId())
		if err != nil {
			return err
		}
		if socket, ok := describeSocket(file); ok {
			socket.PID = t.pid
			ckpt.Sockets = append(ckpt.Sockets, socket)
			ckpt.Established = ckpt.Established || socket.Connection()
			continue
		}
		ckpt.Files = append(ckpt.Files, OpenFile{
			PID: t.pid, FD: strconv.FormatUint(uint64(fd.GetFd()), 10), Type: typeName(fd.GetType()), Path: d.describeFile(file),
		})
	}
	return d.directories(t, ckpt)
}

// directories adds a process's working and root directory.
func (d *imageDir) directories(t task, ckpt *Checkpoint) error {
	dirs, err := decodeOne(d, fmt.Sprintf("fs-%d.img", t.pid), &fs.FsEntry{})
	if err != nil {
		return err
	}
	for _, dir := range []struct {
		name string
		id   uint32
	}{{"cwd", dirs.GetCwdId()}, {"root", dirs.GetRootId()}} {
		file, err := d.file(dir.id)
		if err != nil {
			return err
		}
		ckpt.Files = append(ckpt.Files, OpenFile{
			PID: t.pid, FD: dir.name, Type: typeName(fdinfo.FdTypes_REG), Path: d.describeFile(file),
		})
	}
	return nil
}

// file looks an open file up by its id.
func (d *imageDir) file(id uint32) (*fdinfo.FileEntry, error) {
	if d.files == nil {
		entries, err := decode(d, "files.img", &fdinfo.FileEntry{})
		if err != nil {
			return nil, err
		}
		d.files = make(map[uint32]*fdinfo.FileEntry, len(entries))
		for _, entry := range entries {
			d.files[entry.GetId()] = entry
		}
	}
	file, ok := d.files[id]
	if !ok {
		return nil, fmt.Errorf("files.img lacks file %#x", id)
	}
	return file, nil
}

// image decodes a whole image file.
func (d *imageDir) image(name string, entry proto.Message) (*crit.CriuImage, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := crit.New(f, nil, "", false, true).Decode(entry)
	if err != nil {
		return nil, fmt.Errorf("%s: decode: %w", name, err)
	}
	return img, nil
}

// decode returns the entries of an image, all of the type of entry.
func decode[E proto.Message](d *imageDir, name string, entry E) ([]E, error) {
	img, err := d.image(name, entry)
	if err != nil {
		return nil, err
	}
	entries := make([]E, len(img.Entries))
	for i := range img.Entries {
		e, ok := img.Entries[i].Message.(E)
		if !ok {
			return nil, fmt.Errorf("%s: holds %T, want %T", name, img.Entries[i].Message, entry)
		}
		entries[i] = e
	}
	return entries, nil
}

// decodeOne returns the entry of an image that has exactly one.
func decodeOne[E proto.Message](d *imageDir, name string, entry E) (E, error) {
	entries, err := decode(d, name, entry)
	if err != nil {
		return entry, err
	}
	if len(entries) != 1 {
		return entry, fmt.Errorf("%s: %d entries, want 1", name, len(entries))
	}
	return entries[0], nil
}

func typeName(t fdinfo.FdTypes) string { return strings.ToLower(t.String()) }

// describeFile returns a path, or what stands for it where a file has none.
func (d *imageDir) describeFile(file *fdinfo.FileEntry) string {
	switch {
	case file.GetReg() != nil:
		return regPath(file.GetReg())
	case d.fifo(file) != nil:
		return regPath(d.fifo(file))
	case file.GetPipe() != nil:
		return fmt.Sprintf("pipe:[%d]", file.GetPipe().GetPipeId())
	case file.GetMemfd() != nil:
		return "memfd"
	case file.GetTty() != nil:
		return fmt.Sprintf("tty:[%#x]", file.GetTty().GetTtyInfoId())
	default:
		return fmt.Sprintf("%s:[%#x]", typeName(file.GetType()), file.GetId())
	}
}

func regPath(reg *regfile.RegFileEntry) string {
	if strings.HasPrefix(reg.GetName(), "/") || reg.GetExt() {
		return reg.GetName()
	}
	return "/" + reg.GetName()
}

// describeSocket returns false if the file is not a socket.
func describeSocket(file *fdinfo.FileEntry) (Socket, bool) {
	switch {
	case file.GetIsk() != nil:
		sk := file.GetIsk()
		return Socket{
			Protocol: ipProtocol(sk.GetProto()),
			State:    socketState(sk.GetState()),
			Source:   address(sk.GetSrcAddr(), sk.GetSrcPort()),
			Dest:     address(sk.GetDstAddr(), sk.GetDstPort()),
			Device:   sk.GetOpts().GetSoBoundDev(),
		}, true
	case file.GetUsk() != nil:
		sk := file.GetUsk()
		return Socket{Protocol: "unix", State: socketState(sk.GetState()), Source: unixName(sk.GetName())}, true
	case file.GetNlsk() != nil:
		return Socket{Protocol: "netlink", State: socketState(file.GetNlsk().GetState())}, true
	case file.GetPsk() != nil:
		return Socket{Protocol: "packet"}, true
	}
	return Socket{}, false
}

func ipProtocol(number uint32) string {
	switch number {
	case 1:
		return "icmp"
	case protoTCP:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "icmpv6"
	case 136:
		return "udplite"
	}
	return fmt.Sprintf("ip protocol %d", number)
}

const protoTCP = 6

// socketStates are the kernel's TCP states, which CRIU uses for every kind of socket; the index is the number.
var socketStates = [...]string{
	"", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
	"LISTEN", "CLOSING", "NEW_SYN_RECV",
}

func socketState(number uint32) string {
	if int(number) < len(socketStates) {
		return socketStates[number]
	}
	return strconv.FormatUint(uint64(number), 10)
}

// address renders an IP address, whose words are in network byte order, and a port; "" for the end of a socket that
// is not connected.
func address(words []uint32, port uint32) string {
	var b []byte
	for _, word := range words {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok || ip.IsUnspecified() && port == 0 {
		return ""
	}
	return netip.AddrPortFrom(ip, uint16(port)).String()
}

// unixName renders a unix socket's address; the kernel's abstract ones begin with a zero byte.
func unixName(name []byte) string {
	s := strings.TrimRight(string(name), "\x00")
	if rest, ok := strings.CutPrefix(s, "\x00"); ok {
		return "@" + rest
	}
	return s
}
