package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// image is a container image that the lab makes itself, since there may be no registry to pull from.
type image struct {
	Name string
	// Recipe is everything that decides what is in the image; its hash keys the cache.
	Recipe any
	Config imageConfig
	// ForTests is true for one that takes long to make and that nothing but tests needs: it is made when they are run.
	ForTests bool
	// Build fills an empty directory with the image's root file system.
	Build func(ctx context.Context, lab *Lab, dir string) error
}

// imageConfig is the part of an image's configuration that the lab uses, in the names of the OCI image specification.
type imageConfig struct {
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

func images() []image {
	return append([]image{tinyImage(), pauseImage(), ballastImage(), redmineImage(), fatAppImage(), runtimesImage()}, compatImages()...)
}

func imageNames() []string {
	var names []string
	for _, i := range images() {
		names = append(names, i.Name)
	}
	return names
}

// usualImages are the names of those that each node has.
func usualImages() []string {
	var names []string
	for _, i := range images() {
		if !i.ForTests {
			names = append(names, i.Name)
		}
	}
	return names
}

func imagesCommand(lab *Lab) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:       "images [NAME…]",
		Short:     "Build the lab's images (" + strings.Join(imageNames(), ", ") + ") and load them into the running nodes",
		ValidArgs: imageNames(),
		Args:      cobra.OnlyValidArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, cancel := interruptible(cmd.Context())
			defer cancel()
			if len(names) == 0 {
				names = imageNames()
			}
			nodes, err := lab.nodes()
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.initPID() == 0 || (node != "" && n.Name != node) {
					continue
				}
				if err := n.loadImages(ctx, names...); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "only this node")
	return cmd
}

// archive returns the file that docker load takes, and the image's id; it builds the image if it isn't in the cache.
func (l *Lab) archive(ctx context.Context, i image) (archive, id string, err error) {
	name := filepath.Join("images", i.Name+"-"+hashOf([]any{i.Recipe, i.Config}))
	dir, err := l.cached(ctx, name, func(tmp string) error {
		slog.Info("building image, once for this recipe", "image", i.Name, "dir", tmp)
		start := time.Now()
		root := filepath.Join(tmp, "root")
		if err := os.MkdirAll(root, 0o755); err != nil {
			return err
		}
		if err := i.Build(ctx, l, root); err != nil {
			return err
		}
		id, err := writeArchive(ctx, i, root, tmp)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tmp, "id"), []byte(id), 0o644); err != nil {
			return err
		}
		slog.Info("built", "image", i.Name, "took", time.Since(start).Round(10*time.Millisecond))
		return os.RemoveAll(root)
	})
	if err != nil {
		return "", "", fmt.Errorf("image %s: %w", i.Name, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "id"))
	if err != nil {
		return "", "", fmt.Errorf("image %s: %w", i.Name, err)
	}
	return filepath.Join(dir, "image.tar"), string(b), nil
}

// loadedImage is what a node's Docker has loaded.
type loadedImage struct {
	Archive string `json:"archive"` // the id that the archive says
	ID      string `json:"id"`      // the id that Docker says
}

// loadImages gives the node's Docker the named images of the lab, tagged NAME:lab.
func (n *Node) loadImages(ctx context.Context, names ...string) error {
	docker := n.docker()
	for _, i := range images() {
		if !slices.Contains(names, i.Name) {
			continue
		}
		archive, id, err := n.lab.archive(ctx, i)
		if err != nil {
			return err
		}
		// Docker has ids of its own where its images are in containerd's store.
		record, tag := filepath.Join(n.Dir, "images", i.Name+".json"), i.Name+":lab"
		var known loadedImage
		if b, err := os.ReadFile(record); err == nil && json.Unmarshal(b, &known) == nil && known == (loadedImage{id, docker.id(ctx, tag)}) {
			continue
		}
		if err := docker.load(ctx, archive); err != nil {
			return fmt.Errorf("load image %s into node %s: %w", i.Name, n.Name, err)
		}
		if err := os.MkdirAll(filepath.Dir(record), 0o755); err != nil {
			return fmt.Errorf("node directory: %w", err)
		}
		if err := writeJSON(record, loadedImage{id, docker.id(ctx, tag)}); err != nil {
			return err
		}
		slog.Info("loaded", "image", i.Name+":lab", "node", n.Name)
	}
	return nil
}

// dockerAPI is a node's Docker, reached from the host.
type dockerAPI struct{ client *http.Client }

func (n *Node) docker() dockerAPI {
	socket := fmt.Sprintf("/proc/%d/root/run/docker.sock", n.initPID())
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	if n.isVM() {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dialVM(ctx, "/run/docker.sock") }
	}
	return dockerAPI{&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}}
}
