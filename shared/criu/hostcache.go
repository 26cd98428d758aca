package criu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/criu-docker/criu-docker/shared/internal/rundir"
)

// hostCache is where a host's facts are kept: on a file system that does not outlive the running kernel.
const hostCache = rundir.Path + "/" + rundir.HostFile

// cachedHost is the content of hostCache. Criu tells which binary the facts were asked of.
type cachedHost struct {
	Format int    `json:"format"` // hostFormat; facts written by another version of this program are asked anew
	Criu   string `json:"criu_binary"`
	Host   Host   `json:"host"`
}

const hostFormat = 1

// hostInfo is HostInfo for a given criu and cache file.
func hostInfo(ctx context.Context, criuPath, cachePath string) (Host, error) {
	id, err := binaryID(criuPath)
	if err != nil {
		return Host{}, err
	}
	kernel, err := kernelRelease()
	if err != nil {
		return Host{}, err
	}
	var cached cachedHost
	if b, err := os.ReadFile(cachePath); err == nil && json.Unmarshal(b, &cached) == nil &&
		cached.Format == hostFormat && cached.Criu == id && cached.Host.Kernel == kernel {
		return cached.Host, nil
	}
	host, err := measure(ctx, criuPath)
	if err != nil {
		return Host{}, err
	}
	// Without the cache the next call takes longer, and that is all; a user other than root can't write it.
	if b, err := json.Marshal(cachedHost{Format: hostFormat, Criu: id, Host: host}); err == nil {
		if _, err := rundir.Make(filepath.Dir(cachePath)); err == nil {
			_ = renameio.WriteFile(cachePath, b, 0o644, renameio.WithTempDir(filepath.Dir(cachePath)))
		}
	}
	return host, nil
}

// binaryID changes whenever the file at path is replaced.
func binaryID(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano()), nil
}
