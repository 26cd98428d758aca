package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

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
	entries, err := os.ReadDir(filepath.Join(l.Dir, "nodes"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var nodes []*Node
	for _, e := range entries {
		if e.IsDir() {
			nodes = append(nodes, l.node(e.Name()))
		}
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].Name < nodes[j].Name })
	return nodes, nil
}

// lock makes calls that change the lab wait for one another; the returned function gives the lock back.
func (l *Lab) lock(ctx context.Context) (func(), error) {
	return lockFile(ctx, filepath.Join(l.Dir, "lab.lock"))
}

// lockFile takes an exclusive lock that the kernel gives back when the process ends, however it ends.
func lockFile(ctx context.Context, path string) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
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
