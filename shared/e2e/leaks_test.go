package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
)

// witness knows every container that a test has made, also those that are gone.
type witness struct {
	mu  sync.Mutex
	ids []string
}

// watch begins to listen to the engine.
func (w *witness) watch(ctx context.Context, eng *engine.Engine, label string) {
	created, _ := eng.Client.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", "container"), filters.Arg("event", "create"), filters.Arg("label", label),
	)})
	go func() {
		for {
			select {
			case e := <-created:
				w.mu.Lock()
				w.ids = append(w.ids, e.Actor.ID)
				w.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (w *witness) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ids)
}

// nothingIsLeft fails the test if anything is left of a container that it has made. None may exist any more.
func (l *lab) nothingIsLeft() {
	l.Helper()
	require.Empty(l, l.containers())
	l.nothingIsLeftOf(l.seen())
}

// nothingIsLeftOf gives the kernel and the engine some time to remove what belonged to containers that are gone.
func (l *lab) nothingIsLeftOf(ids []string) {
	l.Helper()
	if len(ids) == 0 {
		return
	}
	var left []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if left = l.leftovers(ids); len(left) == 0 {
			return
		}
	}
	require.Fail(l, "leaked", "%s", strings.Join(left, "\n"))
}

func (l *lab) leftovers(ids []string) (left []string) {
	// CRIU's directories in /tmp do not name their container; those of others that start at this moment go away.
	for _, dir := range criuDirs() {
		if !slices.Contains(l.criuDirs, dir) {
			left = append(left, dir)
		}
	}
	mentions := func(text string) bool {
		for _, id := range ids {
			if strings.Contains(text, id) {
				return true
			}
		}
		return false
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(l, err)
	for line := range strings.Lines(string(mounts)) {
		if mentions(line) {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	left = append(left, processes(mentions)...)
	for _, dir := range []string{
		"/sys/fs/cgroup", ociruntime.DefaultRunDir, ociruntime.DefaultRequestDir, "/run/docker", "/var/lib/docker/containers", l.dir,
	} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil: // removed meanwhile, or another container's mount
				return fs.SkipDir
			case mentions(d.Name()) && dockerdForgets(path):
				return fs.SkipDir
			case mentions(d.Name()):
				left = append(left, path)
				return fs.SkipDir
			case d.Name() == "overlay2" || d.Name() == "rootfs":
				return fs.SkipDir
			}
			return nil
		})
	}
	return left
}

// dockerdForgets tells the directory of a container's pipes, which dockerd leaves behind, empty, when a start is cancelled
// early; so it does with runc.
func dockerdForgets(dir string) bool {
	return filepath.Base(filepath.Dir(dir)) == "containerd" && os.Remove(dir) == nil
}

func criuDirs() []string {
	dirs, _ := filepath.Glob("/tmp/.criu.mntns.*")
	return dirs
}

// processes lists those that have something to do with a container: by command line, cgroup, directories or open files.
func processes(mentions func(string) bool) (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if dir == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		traces := []string{string(cmdline), string(cgroup)}
		links, _ := filepath.Glob(dir + "/fd/*")
		for _, link := range append(links, dir+"/cwd", dir+"/root") {
			target, _ := os.Readlink(link)
			traces = append(traces, target)
		}
		for _, t := range traces {
			// dockerd and containerd serve every container.
			if mentions(t) && !strings.HasPrefix(string(cmdline), "dockerd\x00") && !strings.HasPrefix(string(cmdline), "containerd\x00") {
				found = append(found, fmt.Sprintf("process %s %q: %q", filepath.Base(dir), cmdline, t))
				break
			}
		}
	}
	return found
}
