package mountfiles

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// archive makes one of headers; files hold "content", as much of it as they are long.
func archive(t *testing.T, headers ...tar.Header) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Format = tar.FormatPAX
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = 7
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1e9, 5)
		}
		require.NoError(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg && h.Size < 1<<20 {
			_, err := w.Write(bytes.Repeat([]byte("content"), int(h.Size)/7+1)[:h.Size])
			require.NoError(t, err)
		}
	}
	_ = w.Close() // an archive may be short of what it claims
	return bytes.NewReader(b.Bytes())
}

func dir(name string, mode int64) tar.Header {
	return tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode, Uid: 7, Gid: 8}
}

func file(name string) tar.Header { return tar.Header{Name: name, Mode: 0o640, Uid: 7, Gid: 8} }

// bed is a register and a mount at /v.
type bed struct {
	*testing.T
	Register
	dir    string
	mounts []Mount
}

func newBed(t *testing.T) *bed {
	t.Helper()
	d := t.TempDir()
	return &bed{t, Register(t.TempDir()), d, []Mount{{"/v", d}, {"/v/tmpfs", ""}, {"/ro", ""}, {"/", ""}}}
}

func (b *bed) place(id string, r io.Reader) error {
	return b.Place(context.Background(), id, r, b.mounts)
}

func (b *bed) undo(id string)   { b.Helper(); require.NoError(b, b.Undo(context.Background(), id)) }
func (b *bed) settle(id string) { b.Helper(); require.NoError(b, b.Settle(context.Background(), id)) }

// tree lists what is on the mount.
func (b *bed) tree() (list []string) {
	b.Helper()
	require.NoError(b, filepath.WalkDir(b.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == b.dir {
			return err
		}
		info, err := d.Info()
		require.NoError(b, err)
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %s %d:%d", strings.TrimPrefix(name, b.dir), info.Mode(), st.Uid, st.Gid)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(name)
			require.NoError(b, err)
			line += " " + string(content)
		}
		list = append(list, line)
		return nil
	}))
	return list
}

func (b *bed) requireNoRecords() {
	b.Helper()
	records, err := filepath.Glob(string(b.Register) + "/*" + recordSuffix)
	require.NoError(b, err)
	require.Empty(b, records)
}

var (
	whole  = []tar.Header{dir("v/d", 0o1770), dir("v/d/e", 0o700), file("v/d/e/f"), file("v/g")}
	placed = []string{"/d dtrwxrwx--- 7:8", "/d/e drwx------ 7:8", "/d/e/f -rw-r----- 7:8 content", "/g -rw-r----- 7:8 content"}
)

func TestPlaceAndUndo(t *testing.T) {
	for name, flag := range map[string]int{"files without names": unix.O_TMPFILE, "files with names": 0} {
		t.Run(name, func(t *testing.T) {
			unnamed = flag
			t.Cleanup(func() { unnamed = unix.O_TMPFILE })
			b := newBed(t)
			require.NoError(t, b.place("a", archive(t, whole...)))
			require.Equal(t, placed, b.tree())
			info, err := os.Stat(filepath.Join(b.dir, "g"))
			require.NoError(t, err)
			require.Equal(t, time.Unix(1e9, 5), info.ModTime())
			b.undo("a")
			require.Empty(t, b.tree())

			require.NoError(t, b.place("a", archive(t, whole...)))
			require.NoError(t, b.place("a", archive(t, whole...)), "the start before was killed")
			b.settle("a")
			b.undo("a")
			require.Equal(t, placed, b.tree())
			require.NoError(t, b.place("a", archive(t, whole...)))
			b.requireNoRecords()
			b.undo("a")
			require.Equal(t, placed, b.tree())
		})
	}
}

// What others have made, changed or replaced is not ours.
func TestUndoLeavesOthersAlone(t *testing.T) {
	b := newBed(t)
	path := func(name string) string { return filepath.Join(b.dir, name) }
	names := []string{"written", "moved", "replaced", "linked", "opened up"}
	headers := []tar.Header{dir("v/used", 0o755), dir("v/now a file", 0o755), file("v/used/mine")}
	for _, n := range names {
		headers = append(headers, file("v/"+n))
	}
	require.NoError(t, b.place("a", archive(t, headers...)))
	require.NoError(t, os.WriteFile(path("written"), []byte("changed"), 0))
	require.NoError(t, os.Rename(path("moved"), path("elsewhere")))
	require.NoError(t, os.WriteFile(path("other"), []byte("content"), 0o640))
	require.NoError(t, os.Rename(path("other"), path("replaced")))
	require.NoError(t, os.Remove(path("linked")))
	require.NoError(t, os.Symlink("elsewhere", path("linked")))
	require.NoError(t, os.Chmod(path("opened up"), 0o666))
	require.NoError(t, os.WriteFile(path("used/theirs"), nil, 0o600))
	require.NoError(t, os.Remove(path("now a file")))
	require.NoError(t, os.WriteFile(path("now a file"), nil, 0o600))
	before := b.tree()
	b.undo("a")
	var want []string
	for _, line := range before {
		if !strings.HasPrefix(line, "/used/mine") {
			want = append(want, line)
		}
	}
	require.Equal(t, want, b.tree())
}

// CRIU leaves the sockets that it has bound when it fails. Those that others have bound since are theirs.
func TestUndoRemovesDeadSockets(t *testing.T) {
	b := newBed(t)
	require.NoError(t, b.place("a", archive(t, dir("v/dead", 0o755), dir("v/live", 0o755), dir("v/datagrams", 0o755))))
	bind := func(name string, kind int) int {
		s, err := unix.Socket(unix.AF_UNIX, kind, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Bind(s, &unix.SockaddrUnix{Name: filepath.Join(b.dir, name)}))
		return s
	}
	require.NoError(t, unix.Close(bind("dead/stream", unix.SOCK_STREAM)))
	require.NoError(t, unix.Close(bind("dead/datagrams", unix.SOCK_DGRAM)))
	live, datagrams := bind("live/stream", unix.SOCK_STREAM), bind("datagrams/live", unix.SOCK_DGRAM)
	defer unix.Close(live)
	defer unix.Close(datagrams)
	b.undo("a")
	require.Len(t, b.tree(), 4)
	require.NoDirExists(t, filepath.Join(b.dir, "dead"))
}

// Of starts that use the same files, each may fail or succeed.
func TestStartsThatShareAMount(t *testing.T) {
	for name, c := range map[string]struct {
		ends func(b *bed)
		left []string
	}{
		"the first fails, the second succeeds": {func(b *bed) { b.undo("a"); require.Equal(b, placed, b.tree()); b.settle("b") }, placed},
		"the second succeeds, the first fails": {func(b *bed) { b.settle("b"); b.undo("a") }, placed},
		"the first succeeds, the second fails": {func(b *bed) { b.settle("a"); b.undo("b") }, placed},
		"both fail":                            {func(b *bed) { b.undo("a"); b.undo("b") }, nil},
		"both fail, the second first":          {func(b *bed) { b.undo("b"); require.Equal(b, placed, b.tree()); b.undo("a") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			require.NoError(t, b.place("a", archive(t, whole...)))
			require.NoError(t, b.place("b", archive(t, whole...)))
			require.Equal(t, placed, b.tree())
			c.ends(b)
			require.Equal(t, c.left, b.tree())
			b.requireNoRecords()
		})
	}
}

func TestHostileArchives(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	for name, headers := range map[string][]tar.Header{
		"above":              {file("v/../x")},
		"above everything":   {file("../../../../../../../../" + outside)},
		"absolute":           {file("/v/x")},
		"two slashes":        {file("v//x")},
		"dot":                {file("v/./x")},
		"no name":            {dir("", 0o755)},
		"a long name":        {file("v/" + strings.Repeat("x", 256))},
		"no mount":           {file("etc/passwd")},
		"beside a mount":     {file("vx/file")},
		"read-only mount":    {file("ro/x")},
		"a tmpfs in a mount": {file("v/tmpfs/x")},
		"a mount":            {dir("v", 0o777)},
		"a mount in a mount": {dir("v/tmpfs", 0o777)},
		"no parent":          {file("v/d/x")},
		"set-user-id":        {{Name: "v/x", Mode: 0o4755}},
		"set-group-id":       {dir("v/x", 0o2755)},
		"sticky file":        {{Name: "v/x", Mode: 0o1755}},
		"owner":              {{Name: "v/x", Mode: 0o644, Uid: 1<<32 - 1}},
		"link":               {{Name: "v/x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, file("v/x/y")},
		"hard link":          {{Name: "v/x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"device":             {{Name: "v/x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1}},
		"fifo":               {{Name: "v/x", Typeflag: tar.TypeFifo}},
		"twice":              {file("v/x"), file("v/x")},
		"beneath a file":     {file("v/x"), file("v/x/y")},
		"large":              {{Name: "v/x", Mode: 0o644, Size: MaxBytes + 1}},
		"short":              {{Name: "v/x", Mode: 0o644, Size: 2 << 20}},
		"time":               {{Name: "v/x", Mode: 0o644, ModTime: time.Unix(-1e15, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			err := b.place("a", archive(t, headers...))
			require.Error(t, err)
			if name != "no parent" && name != "beneath a file" {
				require.ErrorIs(t, err, ErrDamaged)
			}
			require.NotContains(t, strings.Join(b.tree(), "\n"), stagingName)
			b.undo("a")
			require.Empty(t, b.tree())
			require.NoFileExists(t, outside)
		})
	}
	t.Run("many", func(t *testing.T) {
		var headers []tar.Header
		for i := range MaxEntries + 1 {
			headers = append(headers, file(fmt.Sprintf("v/%d", i)))
		}
		b := newBed(t)
		require.ErrorIs(t, b.place("a", archive(t, headers...)), ErrDamaged)
		b.undo("a")
		require.Empty(t, b.tree())
	})
	t.Run("noise", func(t *testing.T) {
		require.ErrorIs(t, newBed(t).place("a", strings.NewReader(strings.Repeat("noise", 1000))), ErrDamaged)
	})
}

// Others who share the mount may have put links there, mounts, or what looks like ours.
func TestHostileMounts(t *testing.T) {
	outside := t.TempDir()
	b := newBed(t)
	source := b.dir
	path := func(name string) string { return filepath.Join(source, name) }
	require.NoError(t, os.Symlink(outside, path("d")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "g"), path("g")))
	require.NoError(t, os.WriteFile(path("file"), []byte("theirs"), 0o600))
	require.NoError(t, os.Mkdir(path("mounted"), 0o755))
	require.NoError(t, unix.Mount("none", path("mounted"), "tmpfs", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(path("mounted"), unix.MNT_DETACH)) })
	before := b.tree()
	require.NoError(t, b.place("a", archive(t, append(whole, dir("v/file", 0o755), file("v/file/x"), dir("v/mounted", 0o755), file("v/mounted/x"))...)))
	require.Equal(t, before, b.tree())
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Empty(t, entries)

	for name, prepare := range map[string]func(string){
		"link":      func(at string) { require.NoError(t, os.Symlink(outside, at)) },
		"directory": func(at string) { require.NoError(t, os.Mkdir(at, 0o777)); require.NoError(t, os.Chown(at, 7, 8)) },
	} {
		b := newBed(t)
		prepare(filepath.Join(b.dir, stagingName))
		require.Error(t, b.place("a", archive(t, whole...)), name)
		b.undo("a")
		entries, err := os.ReadDir(outside)
		require.NoError(t, err)
		require.Empty(t, entries)
	}
	b = newBed(t)
	b.mounts[0].Source = path("d") // became a link after it was resolved
	require.Error(t, b.place("a", archive(t, whole...)))
}

// TestKilledAtAnyMoment: a start that is killed while it places files harms no later one, and deleting its container takes them back.
func TestKilledAtAnyMoment(t *testing.T) {
	const variable = "MOUNTFILES_TEST_PLACE"
	var headers []tar.Header
	for i := range 40 {
		headers = append(headers, dir(fmt.Sprintf("v/%d", i), 0o750), file(fmt.Sprintf("v/%d/f", i)))
	}
	if at := os.Getenv(variable); at != "" {
		register, source, _ := strings.Cut(at, ":")
		unnamed = 0
		if err := Register(register).Place(context.Background(), "a", archive(t, headers...), []Mount{{"/v", source}}); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	}
	killed := 0
	for i := range 40 {
		b := newBed(t)
		child := exec.Command(os.Args[0], "-test.run", "^TestKilledAtAnyMoment$")
		child.Env = append(os.Environ(), variable+"="+string(b.Register)+":"+b.dir)
		require.NoError(t, child.Start())
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		for soFar := false; !soFar && len(ended) == 0; {
			entries, err := os.ReadDir(b.dir)
			require.NoError(t, err)
			soFar = len(entries) >= i
		}
		_ = child.Process.Kill() // unless it was faster
		if <-ended != nil {
			killed++
		}
		if i%2 == 0 {
			b.undo("a")
			require.Empty(t, b.tree())
			continue
		}
		require.NoError(t, b.place("b", archive(t, headers...)))
		require.Len(t, b.tree(), len(headers)+strings.Count(strings.Join(b.tree(), "\n"), stagingName))
		b.settle("b")
		b.undo("a")
		tree := b.tree()
		require.Len(t, tree, len(headers), "and nothing else")
		for _, line := range tree {
			require.Regexp(t, `^/\d+( drwxr-x--- 7:8|/f -rw-r----- 7:8 content)$`, line)
		}
	}
	require.Positive(t, killed)
}

// TestKeep: what can't be carried is told, and a donor that exchanges what it held gives nothing away.
func TestKeep(t *testing.T) {
	root := t.TempDir()
	path := func(name string) string { return filepath.Join(root, name) }
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	require.NoError(t, os.MkdirAll(path("d/e"), 0o755))
	require.NoError(t, unix.Chmod(path("d"), 0o2750))
	for _, name := range []string{"d/e/f", "grown", "sized", "set", "attributes"} {
		require.NoError(t, os.WriteFile(path(name), []byte("content"), 0o640))
	}
	require.NoError(t, unix.Chmod(path("set"), 0o4755))
	require.NoError(t, unix.Setxattr(path("attributes"), "user.x", []byte("y"), 0))
	require.NoError(t, os.Symlink(secret, path("link")))
	require.NoError(t, os.Symlink(filepath.Dir(secret), path("linked")))
	require.NoError(t, unix.Mkfifo(path("fifo"), 0o600))

	roots, err := OpenRoots(os.Getpid(), []string{root, "/nowhere"})
	require.NoError(t, err)
	var id int32
	for id = range roots {
		require.Len(t, roots, 1)
	}
	held := func(name string, mode uint32, size int64) criu.HeldFile {
		return criu.HeldFile{MountFile: criu.MountFile{Path: "/v/" + name, Mount: "/v"}, MountID: id, Mode: mode, Size: size}
	}
	list := []criu.HeldFile{
		held("attributes", unix.S_IFREG|0o640, 7),
		held("d/e", criu.Watched, -1),
		held("d/e/f", unix.S_IFREG|0o640, 7),
		held("d/socket", 0, -1),
		held("fifo", unix.S_IFREG|0o600, 0),
		held("gone", unix.S_IFREG|0o600, 0),
		held("grown", unix.S_IFREG|0o640, -1),
		held("link", unix.S_IFREG|0o640, 7),
		held("linked/secret", unix.S_IFREG|0o600, 6),
		held("set", unix.S_IFREG|0o4755, 7),
		held("sized", unix.S_IFREG|0o640, 6),
		{MountFile: criu.MountFile{Path: "/v", Mount: "/v"}, MountID: id, Mode: unix.S_IFDIR | 0o700, Size: -1},
		{MountFile: criu.MountFile{Path: "/dev/shm/x", Mount: "/dev/shm"}, MountID: id, Mode: unix.S_IFREG | 0o600},
		{MountFile: criu.MountFile{Path: "/w/x", Mount: "/w"}, MountID: -5, Mode: unix.S_IFREG | 0o600},
	}
	var b bytes.Buffer
	kept, err := Keep(context.Background(), list, roots, &b)
	require.NoError(t, err)
	var names []string
	for _, f := range kept.Files {
		names = append(names, f.Path)
	}
	require.Equal(t, []string{"/v/attributes", "/v/d/e", "/v/d/e/f", "/v/grown"}, names)
	require.NotContains(t, b.String(), "secret")
	told := strings.Join(kept.Warnings, "\n")
	for _, want := range []string{
		`/v/attributes, held by the app on a mount, is in the snapshot without extended attributes ("user.x")`, "/v/d, held by the app on a mount, is in the snapshot with mode 750 instead of 2750",
		"/v/fifo, /v/gone, /v/link, /v/linked/secret, /w/x, held by the app on a mount, are not in the snapshot, since nothing of the kind was there",
		"/v/set, held", "/v/sized, held", "/dev/shm/x, held",
	} {
		require.Contains(t, told, want)
	}
	var entries []string
	require.NoError(t, Read(&b, func(e Entry, r io.Reader) error {
		content, err := io.ReadAll(r)
		entries = append(entries, fmt.Sprintf("%s %o %v %s", e.Path, e.Mode, e.Dir, content))
		return err
	}))
	require.Equal(t, []string{"/v/attributes 640 false content", "/v/d 750 true ", "/v/d/e 755 true ", "/v/d/e/f 640 false content", "/v/grown 640 false content"}, entries)

	b.Reset()
	kept, err = Keep(context.Background(), list[5:6], roots, &b)
	require.NoError(t, err)
	require.Empty(t, kept.Files)
	require.Zero(t, b.Len())
}
