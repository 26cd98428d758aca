package mountfiles

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/internal/filelock"
)

// Register is a directory that has, for every start under way that has placed files, or that uses what another one has placed, a record of
// them. It lasts as long as the host runs. Of each container there is one start at a time.
type Register string

// Settle ends the record of a start that has succeeded: what it uses stays, whatever becomes of the other starts that use it.
func (r Register) Settle(ctx context.Context, id string) error {
	return r.end(ctx, id, r.settle)
}

// Undo ends the record of a start that has failed: what it has placed goes, unless another start uses it, or it was changed. A
// container without a record is not an error.
func (r Register) Undo(ctx context.Context, id string) error {
	return r.end(ctx, id, r.undo)
}

func (r Register) end(ctx context.Context, id string, how func(id string) error) error {
	if _, err := os.Lstat(r.file(id)); notThere(err) {
		return nil // nothing else makes it
	}
	unlock, err := r.lock(ctx)
	if err == nil {
		defer unlock()
		err = how(id)
	}
	if err != nil {
		return fmt.Errorf("files on mounts: %w", err)
	}
	return nil
}

// lockPatience bounds the wait for other starts, which place files on this host.
const lockPatience = 20 * time.Second

func (r Register) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockPatience, fmt.Errorf("another start has been placing files for more than %s: does the file system of one of its mounts hang?", lockPatience))
	defer cancel()
	l, err := filelock.Acquire(ctx, filepath.Join(string(r), "lock"), filelock.Exclusive)
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Release() }, nil
}

const recordSuffix = ".json"

func (r Register) file(id string) string { return filepath.Join(string(r), id+recordSuffix) }

// settle takes what a start uses out of the records of all others.
func (r Register) settle(id string) error {
	mine, err := readRecord(r.file(id))
	if err != nil {
		return err
	}
	settled := map[inode]bool{}
	for _, i := range mine {
		if i.Made != nil {
			settled[i.Made.inode] = true
		}
	}
	err = r.eachOther(id, func(file string, items []item) error {
		left := slices.DeleteFunc(slices.Clone(items), func(i item) bool { return i.Made != nil && settled[i.Made.inode] })
		if len(left) == len(items) {
			return nil
		}
		var b bytes.Buffer
		for _, i := range left {
			if err := json.NewEncoder(&b).Encode(i); err != nil {
				return err
			}
		}
		return renameio.WriteFile(file, b.Bytes(), 0o600)
	})
	if err != nil {
		return err
	}
	return os.Remove(r.file(id))
}

// undo removes what a start has made, the last first.
func (r Register) undo(id string) error {
	mine, err := readRecord(r.file(id))
	if err != nil || len(mine) == 0 {
		return errors.Join(err, removeIfThere(r.file(id)))
	}
	others, err := r.others(id)
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range slices.Backward(mine) {
		if i.Made != nil {
			if _, used := others[i.Made.inode]; used {
				continue
			}
		}
		errs = append(errs, i.remove())
	}
	return errors.Join(append(errs, removeIfThere(r.file(id)))...) // what can't be removed now can't be later
}

func removeIfThere(file string) error {
	if err := os.Remove(file); err != nil && !notThere(err) {
		return err
	}
	return nil
}

// others returns what the starts of other containers have placed or use.
func (r Register) others(id string) (map[inode]made, error) {
	others := map[inode]made{}
	err := r.eachOther(id, func(_ string, items []item) error {
		for _, i := range items {
			if i.Made != nil {
				others[i.Made.inode] = *i.Made
			}
		}
		return nil
	})
	return others, err
}

func (r Register) eachOther(id string, do func(file string, items []item) error) error {
	entries, err := os.ReadDir(string(r))
	if err != nil {
		return err
	}
	for _, e := range entries {
		other, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || other == id {
			continue
		}
		items, err := readRecord(r.file(other))
		if err == nil {
			err = do(r.file(other), items)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// item is a line of a record.
type item struct {
	Place place `json:"place"`
	// Made is what was made there; nil if something is about to be, and at most a staging directory is there.
	Made *made `json:"made,omitempty"`
}

// record is one that is being written. It has a file from its first item on.
type record struct {
	name string
	f    *os.File
}

func (r Register) record(id string) *record { return &record{name: r.file(id)} }

func (r *record) add(i item) error {
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	if r.f == nil {
		if r.f, err = os.OpenFile(r.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err != nil {
			return err
		}
	}
	_, err = r.f.Write(append(b, '\n'))
	return err
}

func (r *record) close() {
	if r.f != nil {
		r.f.Close()
	}
}

// readRecord reads a record; one that is not there is empty. Of a line that was cut off when its writer was killed, nothing has come yet.
func readRecord(file string) ([]item, error) {
	b, err := os.ReadFile(file)
	if notThere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var items []item
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var i item
		if err := json.Unmarshal(line, &i); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		items = append(items, i)
	}
	return items, nil
}

// hostTag tells this host's staging directories from those of others, on file systems that several hosts have.
func hostTag() string {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	sum := sha256.Sum256([]byte(name))
	const length = 4
	return hex.EncodeToString(sum[:length])
}
