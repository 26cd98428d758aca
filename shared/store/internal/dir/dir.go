// Package dir keeps objects as files in a directory that processes share. Writes are atomic and durable when they return;
// conditional writes of all processes are ordered by a lock file.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/internal/filelock"
	"github.com/criu-docker/criu-docker/shared/internal/reader"
	"github.com/criu-docker/criu-docker/shared/owned"
	"github.com/criu-docker/criu-docker/shared/store/internal/object"
)

const (
	tmpDir   = ".tmp"  // unfinished writes
	lockFile = ".lock" // orders commits; its modification time is the last generation given out

	// leftoverAge is how long a temporary file must have been left alone before it may count as a dead writer's.
	// Its flock says whether the writer lives; the age covers the moment between creating the file and locking it.
	leftoverAge = time.Minute
)

// kind is that of a store's directory. Its marker says as well that a directory is a store: an unmounted one is not taken for an
// empty one. CheckTrust looks at who may write to it.
var kind = owned.Kind{Name: "store", Version: 1, Shared: true}

// tmpName matches the names of unfinished writes.
var tmpName = regexp.MustCompile(`^` + tmpPrefix + `[0-9]+$`)

const tmpPrefix = "put-"

// Bucket is an object.Bucket over a directory. Objects' generations are their modification times in nanoseconds, which
// are given out strictly increasing.
type Bucket struct {
	root      string
	untrusted bool
}

// Open returns the bucket in root; nothing in it is looked at or created yet. ErrUntrusted for a directory that others may write to,
// unless it is to be used untrusted.
func Open(root string, untrusted bool) (*Bucket, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	b := &Bucket{root: abs, untrusted: untrusted}
	return b, b.checkTrust()
}

func (b *Bucket) checkTrust() error {
	if b.untrusted {
		return nil
	}
	return CheckTrust(b.root)
}

// Create implements object.Bucket. The directory is readable by its owner only: memory images hold secrets.
func (b *Bucket) Create(context.Context) error {
	if _, err := kind.Make(b.root); err != nil {
		return err
	}
	return b.checkTrust() // of what was not there when the bucket was opened
}

// Put implements object.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, size int64, r io.Reader, generation string) (object.Info, error) {
	tmp, err := b.temporary()
	if err != nil {
		return object.Info{}, err
	}
	defer os.Remove(tmp.Name()) // after a commit by rename the name is gone already
	defer tmp.Close()
	if err := filelock.Mark(tmp); err != nil {
		return object.Info{}, err
	}
	n, err := io.Copy(tmp, reader.WithContext(ctx, r))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w: free space on the disk of the store %s, or name another store", err, b.root)
	}
	if err != nil {
		return object.Info{}, fmt.Errorf("writing %s: %w", key, err)
	}
	if n != size {
		return object.Info{}, fmt.Errorf("writing %s: got %d bytes of %d: %w", key, n, size, io.ErrUnexpectedEOF)
	}
	if err := tmp.Sync(); err != nil {
		return object.Info{}, fmt.Errorf("writing %s: %w", key, err)
	}
	return b.commit(ctx, key, tmp, generation)
}

// Get implements object.Bucket.
func (b *Bucket) Get(_ context.Context, key string, off, n int64) (io.ReadCloser, object.Info, error) {
	if err := b.checkTrust(); err != nil {
		return nil, object.Info{}, err
	}
	f, err := os.OpenFile(b.path(key), os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not hold us up
	if err != nil {
		return nil, object.Info{}, b.explain(err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist // a directory is not an object
	}
	if err != nil {
		f.Close()
		return nil, object.Info{}, b.explain(err)
	}
	if n < 0 {
		n = max(0, fi.Size()-off)
	}
	return section{io.NewSectionReader(f, off, n), f}, info(key, fi), nil
}

// Stat implements object.Bucket.
func (b *Bucket) Stat(_ context.Context, key string) (object.Info, error) {
	fi, err := os.Stat(b.path(key))
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrNotExist // a directory is not an object
	}
	if err != nil {
		return object.Info{}, b.explain(err)
	}
	return info(key, fi), nil
}

// List implements object.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[object.Info, error] {
	return func(yield func(object.Info, error) bool) {
		infos, err := b.list(ctx, prefix)
		if err != nil {
			yield(object.Info{}, err)
			return
		}
		for _, i := range infos {
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Delete implements object.Bucket.
func (b *Bucket) Delete(ctx context.Context, key, generation string) error {
	lock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	current, err := b.Stat(ctx, key)
	if err != nil {
		return err
	}
	if current.Generation != generation {
		return fmt.Errorf("%s: %w", key, object.ErrPrecondition)
	}
	if err := os.Remove(b.path(key)); err != nil {
		return b.explain(err)
	}
	dir := filepath.Dir(b.path(key))
	if err := syncDir(dir); err != nil {
		return err
	}
	for ; dir != b.root && os.Remove(dir) == nil; dir = filepath.Dir(dir) { // empty parents only
	}
	return nil
}

// RemoveLeftovers implements object.Bucket.
func (b *Bucket) RemoveLeftovers(ctx context.Context) error {
	d, err := b.open()
	if err != nil {
		return err
	}
	names, err := d.Files(tmpDir, tmpName)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		fi, err := os.Lstat(d.Path(tmpDir, name))
		if err != nil || time.Since(fi.ModTime()) < leftoverAge {
			continue // gone, or in use
		}
		lock, err := filelock.Try(d.Path(tmpDir, name), filelock.Exclusive)
		if errors.Is(err, filelock.ErrLocked) {
			continue
		}
		if err != nil {
			return err
		}
		if err := lock.Remove(); err != nil {
			return fmt.Errorf("removing a leftover: %w", err)
		}
	}
	return nil
}

// Close implements object.Bucket.
func (b *Bucket) Close() error { return nil }

// temporary creates a file for an unfinished write.
func (b *Bucket) temporary() (*os.File, error) {
	if err := b.checkTrust(); err != nil {
		return nil, err
	}
	d, err := b.open()
	if err != nil {
		return nil, err
	}
	tmp, err := d.Sub(tmpDir)
	if err != nil {
		return nil, err
	}
	return os.CreateTemp(tmp, tmpPrefix)
}

// commit gives a complete temporary file its name, if the object is in the wanted generation.
func (b *Bucket) commit(ctx context.Context, key string, tmp *os.File, generation string) (object.Info, error) {
	lock, err := b.lock(ctx)
	if err != nil {
		return object.Info{}, err
	}
	defer lock.Release()
	current, err := b.Stat(ctx, key)
	switch {
	case errors.Is(err, object.ErrNotFound):
		current.Generation = object.Absent
	case err != nil:
		return object.Info{}, err
	}
	if current.Generation != generation {
		return object.Info{}, fmt.Errorf("%s: %w", key, object.ErrPrecondition)
	}
	now, err := b.tick(lock)
	if err != nil {
		return object.Info{}, err
	}
	if err := os.Chtimes(tmp.Name(), now, now); err != nil {
		return object.Info{}, b.explain(err)
	}
	path := b.path(key)
	if err := b.makeParents(filepath.Dir(path)); err != nil {
		return object.Info{}, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return object.Info{}, b.explain(err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return object.Info{}, err
	}
	return b.Stat(ctx, key)
}

// tick returns the time now, later than any time that it returned before to any process.
func (b *Bucket) tick(lock *filelock.Lock) (time.Time, error) {
	fi, err := lock.File().Stat()
	if err != nil {
		return time.Time{}, b.explain(err)
	}
	now := time.Now().Round(0)
	if last := fi.ModTime(); !now.After(last) {
		now = last.Add(time.Nanosecond)
	}
	if err := os.Chtimes(lock.File().Name(), now, now); err != nil {
		return time.Time{}, b.explain(err)
	}
	return now, nil
}

func (b *Bucket) lock(ctx context.Context) (*filelock.Lock, error) {
	lock, err := filelock.Acquire(ctx, filepath.Join(b.root, lockFile), filelock.Exclusive)
	if err != nil {
		return nil, b.explain(err)
	}
	return lock, nil
}

// makeParents creates dir below the root; every new name is made durable.
func (b *Bucket) makeParents(dir string) error {
	if dir == b.root {
		return nil
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := b.makeParents(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return b.explain(err)
	}
	return syncDir(filepath.Dir(dir))
}

// list walks the deepest directory that all keys with the prefix share.
func (b *Bucket) list(ctx context.Context, prefix string) ([]object.Info, error) {
	start := b.root
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = b.path(prefix[:i])
	}
	var infos []object.Info
	err := filepath.WalkDir(start, func(path string, d fs.DirEntry, err error) error {
		if absent(err) {
			return nil // nothing there, or removed while we walk
		}
		if err != nil {
			return err
		}
		if d.Name() == tmpDir {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(b.root, path)
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(rel, ".") || !strings.HasPrefix(rel, prefix) {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		infos = append(infos, info(rel, fi))
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	if len(infos) == 0 {
		if err := b.exists(); err != nil {
			return nil, err
		}
	}
	sort.Slice(infos, func(i, j int) bool { return infos[i].Key < infos[j].Key })
	return infos, nil
}

func (b *Bucket) path(key string) string { return filepath.Join(b.root, filepath.FromSlash(key)) }

// explain tells a missing object from a missing store.
func (b *Bucket) explain(err error) error {
	if !absent(err) {
		return err
	}
	if err := b.exists(); err != nil {
		return err
	}
	return object.ErrNotFound
}

func (b *Bucket) exists() error {
	_, err := b.open()
	return err
}

// open returns the directory; object.ErrNoStore if it is not a store.
func (b *Bucket) open() (owned.Dir, error) {
	d, err := kind.Open(b.root)
	if absent(err) {
		err = fmt.Errorf("%w in %s: publishing makes one; if there was one, is its file system mounted?", object.ErrNoStore, b.root)
	}
	return d, err
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}

func info(key string, fi fs.FileInfo) object.Info {
	return object.Info{
		Key:        key,
		Size:       fi.Size(),
		Generation: strconv.FormatInt(fi.ModTime().UnixNano(), 10),
		Updated:    fi.ModTime(),
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("making %s durable: %w", dir, err)
	}
	return nil
}

type section struct {
	io.Reader
	io.Closer
}
