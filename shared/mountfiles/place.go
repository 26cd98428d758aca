package mountfiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is a mount of a clone.
type Mount struct {
	Destination string // as the kernel knows it: absolute, and without symbolic links
	Source      string // directory on this host, without symbolic links; "" if nothing may be placed there
}

// Place makes what an archive has and a clone's mounts lack: directories and files with owner, mode and content, each of which appears as a
// whole and replaces nothing. What exists is left alone, whatever it is. It notes what it makes in r before it does.
//
// Nothing is synced: as with any file that an app makes, a host that goes down shortly afterwards may lose it.
func (r Register) Place(ctx context.Context, id string, archive io.Reader, mounts []Mount) error {
	unlock, err := r.lock(ctx)
	if err == nil {
		defer unlock()
		err = r.place(ctx, id, archive, mounts)
	}
	if err != nil {
		return fmt.Errorf("files on mounts: %w", err)
	}
	return nil
}

func (r Register) place(ctx context.Context, id string, archive io.Reader, mounts []Mount) error {
	if err := r.undo(id); err != nil { // of an earlier start
		return err
	}
	others, err := r.others(id)
	if err != nil {
		return err
	}
	p := &placer{ctx: ctx, mounts: mounts, roots: map[string]*root{}, others: others, record: r.record(id), foreign: map[string]bool{}}
	defer p.close()
	return Read(archive, p.place)
}

// placer places the entries of one archive. It holds the register's lock.
type placer struct {
	ctx     context.Context
	mounts  []Mount
	roots   map[string]*root
	others  map[inode]made
	record  *record
	foreign map[string]bool // what is something else here than in the archive: nothing beneath it is made
}

// root is the root of a mount.
type root struct {
	*os.File
	inode
}

// openRoot opens a directory of this host. Its path had no symbolic links when it was resolved, and must have none now.
func openRoot(source string) (*root, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, source, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: source, Err: err}
	}
	f := os.NewFile(uintptr(fd), source)
	st, err := stat(f)
	if err == nil && !isDir(st) {
		err = &os.PathError{Op: "open", Path: source, Err: unix.ENOTDIR}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &root{f, inodeOf(st)}, nil
}

func (p *placer) close() {
	for _, r := range p.roots {
		r.Close()
	}
	p.record.close()
}

// target returns the mount that a path is on.
func (p *placer) target(name string) (m Mount, rel string, err error) {
	found := false
	for _, other := range p.mounts {
		if r, ok := beneath(other.Destination, name); ok && len(other.Destination) >= len(m.Destination) {
			m, rel, found = other, r, true
		}
		if other.Destination == name {
			return m, "", fmt.Errorf("%w: %s is a mount of the container", ErrDamaged, name)
		}
	}
	if !found || m.Source == "" {
		return m, "", fmt.Errorf("%w: %s is on no writable mount that comes from outside the container", ErrDamaged, name)
	}
	return m, rel, nil
}

func (p *placer) place(e Entry, content io.Reader) error {
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	m, rel, err := p.target(e.Path)
	if err != nil {
		return err
	}
	r := p.roots[m.Source]
	if r == nil {
		if r, err = openRoot(m.Source); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Destination, err)
		}
		p.roots[m.Source] = r
	}
	if p.foreign[path.Dir(e.Path)] {
		p.foreign[e.Path] = true
		return nil
	}
	if err := p.placeBeneath(r, rel, e, content); err != nil {
		return fmt.Errorf("%s can't be put on the mount: %w", e.Path, err)
	}
	return nil
}

func (p *placer) placeBeneath(r *root, rel string, e Entry, content io.Reader) error {
	dir, name := path.Split(rel)
	parent, err := openBeneath(r.File, strings.TrimSuffix(dir, "/"), unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer parent.Close()
	there, err := openBeneath(parent, name, 0)
	switch {
	case err == nil:
		defer there.Close()
		return p.meet(r, rel, e, there)
	case !errors.Is(err, unix.ENOENT):
		p.foreign[e.Path] = true // a link, or another file system
		return nil
	}
	at := place{Root: r.Name(), RootID: r.inode, Path: rel}
	if e.Dir {
		err = p.makeDir(parent, name, e, at)
	} else {
		err = p.makeFile(parent, name, e, content, at)
	}
	if errors.Is(err, unix.EEXIST) { // it was faster
		return nil
	}
	return err
}

// meet notes the use of what another start that is not over has made: whichever of them succeeds keeps it.
func (p *placer) meet(r *root, rel string, e Entry, there *os.File) error {
	st, err := stat(there)
	if err != nil {
		return err
	}
	if isDir(st) != e.Dir {
		p.foreign[e.Path] = true
	}
	if theirs, ok := p.others[inodeOf(st)]; ok {
		return p.record.add(item{Place: place{r.Name(), r.inode, rel}, Made: &theirs})
	}
	return nil
}

// unnamed makes a file without a name; not all file systems can do so.
var unnamed = unix.O_TMPFILE

// makeFile makes a file that has no name until it is complete, where the file system can do so.
func (p *placer) makeFile(parent *os.File, name string, e Entry, content io.Reader, at place) error {
	if err := p.record.add(item{Place: at}); err != nil {
		return err
	}
	fd, err := unix.Openat(int(parent.Fd()), ".", unnamed|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	var s *staging
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		if s, err = stage(parent); err != nil {
			return err
		}
		defer s.remove()
		fd, err = unix.Openat(int(s.Fd()), staged, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	}
	if err != nil {
		return &os.PathError{Op: "create", Path: path.Join(parent.Name(), name), Err: err}
	}
	f := os.NewFile(uintptr(fd), path.Join(parent.Name(), name))
	defer f.Close()
	if n, err := io.Copy(f, content); err != nil {
		return err
	} else if n != e.Size {
		return fmt.Errorf("%w: %s ends after %d of %d bytes", ErrDamaged, e.Path, n, e.Size)
	}
	if err := own(f, e); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, ofDescriptor(f), []unix.Timespec{unix.NsecToTimespec(e.ModTime.UnixNano()), unix.NsecToTimespec(e.ModTime.UnixNano())}, 0); err != nil {
		return &os.PathError{Op: "utimes", Path: f.Name(), Err: err}
	}
	if err := p.note(f, at); err != nil {
		return err
	}
	if s != nil {
		return s.moveTo(parent, name)
	}
	if err := unix.Linkat(unix.AT_FDCWD, ofDescriptor(f), int(parent.Fd()), name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.PathError{Op: "link", Path: f.Name(), Err: err}
	}
	return nil
}

func (p *placer) makeDir(parent *os.File, name string, e Entry, at place) error {
	if err := p.record.add(item{Place: at}); err != nil {
		return err
	}
	s, err := stage(parent)
	if err != nil {
		return err
	}
	defer s.remove()
	if err := unix.Mkdirat(int(s.Fd()), staged, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: path.Join(parent.Name(), name), Err: err}
	}
	d, err := openBeneath(s.File, staged, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := own(d, e); err != nil {
		return err
	}
	if err := p.note(d, at); err != nil {
		return err
	}
	return s.moveTo(parent, name)
}

// own gives a file its owner and its mode.
func own(f *os.File, e Entry) error {
	if err := unix.Fchownat(int(f.Fd()), "", int(e.UID), int(e.GID), unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "chown", Path: f.Name(), Err: err}
	}
	if err := unix.Chmod(ofDescriptor(f), e.Mode); err != nil {
		return &os.PathError{Op: "chmod", Path: f.Name(), Err: err}
	}
	return nil
}

// note records a file that is complete, and about to get its name.
func (p *placer) note(f *os.File, at place) error {
	st, err := stat(f)
	if err != nil {
		return err
	}
	m := madeOf(st)
	return p.record.add(item{Place: at, Made: &m})
}

// stagingName is that of a directory, which only root can use, beside what is made or removed. There is only one of this host at a time: its
// maker holds the register's lock. One that is there already was left by a process that was killed.
var stagingName = ".criu-docker-" + hostTag()

// staged is the name of what is in it.
const staged = "it"

// staging is a directory in which only root can exchange anything.
type staging struct {
	*os.File
	parent *os.File
}

func stage(parent *os.File) (*staging, error) {
	removeStaging(parent)
	if err := unix.Mkdirat(int(parent.Fd()), stagingName, 0o700); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: path.Join(parent.Name(), stagingName), Err: err}
	}
	return openStaging(parent)
}

// openStaging refuses what others may have put there instead.
func openStaging(parent *os.File) (*staging, error) {
	f, err := openBeneath(parent, stagingName, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	st, err := stat(f)
	if err == nil && (st.Uid != 0 || st.Mode&0o7777 != 0o700) {
		err = fmt.Errorf("%s is not the directory that was just made", f.Name())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &staging{f, parent}, nil
}

// moveTo gives what is staged its name; EEXIST if the name is taken.
func (s *staging) moveTo(parent *os.File, name string) error {
	err := unix.Renameat2(int(s.Fd()), staged, int(parent.Fd()), name, unix.RENAME_NOREPLACE)
	if err != nil {
		return &os.PathError{Op: "rename", Path: path.Join(parent.Name(), name), Err: err}
	}
	return nil
}

// remove removes the directory, and what is still in it.
func (s *staging) remove() {
	defer s.Close()
	if err := unix.Unlinkat(int(s.Fd()), staged, 0); errors.Is(err, unix.EISDIR) {
		_ = unix.Unlinkat(int(s.Fd()), staged, unix.AT_REMOVEDIR)
	}
	_ = unix.Unlinkat(int(s.parent.Fd()), stagingName, unix.AT_REMOVEDIR)
}

// removeStaging removes what a process that was killed has left in a directory.
func removeStaging(parent *os.File) {
	if s, err := openStaging(parent); err == nil {
		s.remove()
	}
}

// remove takes what was made away, if it is still what it was.
func (i item) remove() error {
	r, err := openRoot(i.Place.Root)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // it is gone
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if r.inode != i.Place.RootID {
		return nil // another file system is mounted there now, or none
	}
	dir, name := path.Split(i.Place.Path)
	parent, err := openBeneath(r.File, strings.TrimSuffix(dir, "/"), unix.O_DIRECTORY)
	if err != nil {
		return nil // something else was put there
	}
	defer parent.Close()
	removeStaging(parent)
	if i.Made == nil || !i.Made.is(parent, name) {
		return nil
	}
	if i.Made.Dir {
		removeDeadSockets(parent, name)
		err = unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
			return nil // it is in use
		}
	} else {
		err = i.removeFile(parent, name)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: filepath.Join(i.Place.Root, i.Place.Path), Err: err}
	}
	return nil
}

// removeDeadSockets removes sockets from a directory that a start has made: CRIU, which has bound them, leaves them when it fails. One that
// no process is bound to is of no use.
func removeDeadSockets(parent *os.File, name string) {
	dir, err := openBeneath(parent, name, unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	list := os.NewFile(uintptr(fd), dir.Name())
	defer list.Close()
	const most = 100 // of many, most are others'
	names, _ := list.Readdirnames(most)
	for _, n := range names {
		if isDeadSocket(dir, n) {
			_ = unix.Unlinkat(int(dir.Fd()), n, 0)
		}
	}
}

func isDeadSocket(dir *os.File, name string) bool {
	f, err := openBeneath(dir, name, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := stat(f)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return false
	}
	caller, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(caller)
	// For sockets of other kinds, which are in use, it is EPROTOTYPE.
	return errors.Is(unix.Connect(caller, &unix.SockaddrUnix{Name: ofDescriptor(f)}), unix.ECONNREFUSED)
}

// removeFile removes a file only where it can't be exchanged any more.
func (i item) removeFile(parent *os.File, name string) error {
	s, err := stage(parent)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := unix.Renameat2(int(parent.Fd()), name, int(s.Fd()), staged, unix.RENAME_NOREPLACE); err != nil {
		_ = unix.Unlinkat(int(parent.Fd()), stagingName, unix.AT_REMOVEDIR)
		return err
	}
	if !i.Made.is(s.File, staged) {
		if err := s.moveTo(parent, name); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	} else if err := unix.Unlinkat(int(s.Fd()), staged, 0); err != nil {
		return err
	}
	return unix.Unlinkat(int(parent.Fd()), stagingName, unix.AT_REMOVEDIR)
}

// is reports whether a name is that of what was made, unchanged. Directories may have changed: they are removed only while they are empty.
func (m made) is(parent *os.File, name string) bool {
	f, err := openBeneath(parent, name, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := stat(f)
	if err != nil {
		return false
	}
	now := madeOf(st)
	if m.Dir {
		now.Changed, now.Size = m.Changed, m.Size
	}
	return now == m
}

// made is what was made, as far as the kernel can tell it from what others make.
type made struct {
	inode
	Born    int64  `json:"born,omitempty"` // ns; 0 where the file system doesn't say
	Dir     bool   `json:"dir,omitempty"`
	Mode    uint16 `json:"mode"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    uint64 `json:"size"`
	Changed int64  `json:"changed"` // time of the last change of its content, ns
}

func madeOf(st unix.Statx_t) made {
	return made{
		inode: inodeOf(st), Born: st.Btime.Sec*1e9 + int64(st.Btime.Nsec), Dir: isDir(st), Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Size: st.Size, Changed: st.Mtime.Sec*1e9 + int64(st.Mtime.Nsec),
	}
}

// place is where something is made.
type place struct {
	Root   string `json:"root"` // on this host
	RootID inode  `json:"root_id"`
	Path   string `json:"path"` // beneath it
}

// notThere reports whether a file is not there.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
