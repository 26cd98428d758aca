package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// epoch stands for every time in an image that would otherwise make two builds of one recipe differ.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// hashOf is the key of what is made by a recipe.
func hashOf(recipe any) string {
	b, err := json.Marshal(recipe)
	if err != nil {
		panic(err) // recipes are made of strings, lists and maps
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// writeArchive makes dir/image.tar, in the form that docker load reads, out of a root file system, and returns the
// image's id. It needs no Docker, so every node that loads the archive gets the same image id.
func writeArchive(ctx context.Context, i image, root, dir string) (id string, err error) {
	layer := filepath.Join(dir, "layer.tar")
	cmd := exec.CommandContext(ctx, "tar", "--create", "--file", layer, "--directory", root, "--numeric-owner", "--sort=name",
		"--xattrs", "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*", ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pack layer: %w: %s", err, tail(out))
	}
	diffID, err := fileDigest(layer)
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"created":      epoch,
		"config":       i.Config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diffID}},
		"history":      []map[string]any{{"created": epoch, "created_by": "lab images " + i.Name}},
	})
	if err != nil {
		return "", fmt.Errorf("image configuration: %w", err)
	}
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{i.Name + ":lab"}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return "", fmt.Errorf("image manifest: %w", err)
	}
	out, err := os.Create(filepath.Join(dir, "image.tar"))
	if err != nil {
		return "", fmt.Errorf("image archive: %w", err)
	}
	w := tar.NewWriter(out)
	err = errors.Join(
		addBytes(w, "manifest.json", manifest), addBytes(w, configName, config), addFile(w, "layer.tar", layer),
		w.Close(), out.Close(), os.Remove(layer))
	if err != nil {
		return "", fmt.Errorf("image archive: %w", err)
	}
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("digest of %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func addBytes(w *tar.Writer, name string, content []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: epoch}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func addFile(w *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size(), ModTime: epoch}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
