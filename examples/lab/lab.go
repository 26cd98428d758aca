package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/owned"
)

// kind is that of a lab's directory. make puts the lab's program there before there is a lab to mark it.
var kind = owned.Kind{Name: "lab", Version: 1, Mode: 0o755, Known: func(entries map[string]fs.FileMode) bool {
	for name, mode := range entries {
		switch name {
		case "bin", "cache", "nodes":
			if mode != fs.ModeDir {
				return false
			}
		case "lab.lock", "lab-switch", "switch.json":
			if mode != 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}}

// Lab is where a lab keeps its things on the host. Dir holds what belongs to this lab (its nodes); Cache holds what is
// expensive and the same for every lab of this machine, keyed by recipe or version, and may be shared between labs.
type Lab struct {
	Dir   string
	Cache string
}

func defaultLab() *Lab {
	lab := &Lab{Dir: os.Getenv("LAB_DIR"), Cache: os.Getenv("LAB_CACHE")}
	if lab.Dir == "" {
		lab.Dir = "/var/lib/criu-docker-lab"
	}
	return lab
}

// complete fills in what depends on other settings, after flags were read.
func (l *Lab) complete() error {
	dir, err := filepath.Abs(l.Dir)
	if err != nil {
		return fmt.Errorf("lab directory %s: %w", l.Dir, err)
	}
	l.Dir = dir
	if l.Cache == "" {
		l.Cache = filepath.Join(l.Dir, "cache")
	}
	if l.Cache, err = filepath.Abs(l.Cache); err != nil {
		return fmt.Errorf("lab cache: %w", err)
	}
	// The path of a unix socket may have 107 characters, and each node has one below this directory.
	if len(l.Dir) > 70 {
		return fmt.Errorf("lab directory %s: longer than 70 characters, too long for the sockets below it: set LAB_DIR to a shorter path", l.Dir)
	}
	return nil
}

// id tells labs with different directories apart where they share something global, such as the cgroup tree.
func (l *Lab) id() string {
	sum := sha256.Sum256([]byte(l.Dir))
	return hex.EncodeToString(sum[:4])
}

// cgroup is the path, below each cgroup hierarchy, that holds everything this lab starts.
func (l *Lab) cgroup() string { return filepath.Join("/criu-docker-lab", l.id()) }

func (l *Lab) node(name string) *Node {
	return &Node{Name: name, Dir: filepath.Join(l.Dir, "nodes", name), lab: l}
}

// nodes lists every node that has a directory, running or not, by name.
func (l *Lab) nodes() ([]*Node, error) {
	own, err := kind.Open(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := own.Dirs("nodes", nodeNames)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var nodes []*Node
	for _, name := range names {
		nodes = append(nodes, l.node(name))
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].Name < nodes[j].Name })
	return nodes, nil
}

// lock makes calls that change the lab wait for one another; the returned function gives the lock back.
func (l *Lab) lock(ctx context.Context) (func(), error) {
	if _, err := kind.Make(l.Dir); err != nil {
		return nil, fmt.Errorf("LAB_DIR: %w", err)
	}
	return lockFile(ctx, filepath.Join(l.Dir, "lab.lock"))
}

// lockFile takes an exclusive lock that the kernel gives back when the process ends, however it ends.
func lockFile(ctx context.Context, path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("waiting for another lab command that holds %s: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
