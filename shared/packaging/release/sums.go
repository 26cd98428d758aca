package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// writeBills writes what each program is made of, as Go has noted it in the program, in CycloneDX's format.
func (r *release) writeBills(ctx context.Context) error {
	for _, p := range products {
		for _, b := range p.binaries() {
			bill := filepath.Join(r.staged, b+"_"+r.version+"_linux_amd64.cdx.json")
			if _, err := r.output(ctx, r.tools.cyclonedx, "bin", "-json", "-std", "-noserial", "-notimestamp", "-version", "v"+r.version,
				"-output", bill, filepath.Join("out/bin", b)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum is the last step: checksums of all that there is.
func (r *release) sum(ctx context.Context) error { return r.sumFiles(ctx, r.staged, "SHA256SUMS") }

// sumFiles writes the checksums of all files in and below a directory as sha256sum does, and signs them if there is a key. The
// signature is binary, which Terraform's registry asks for.
func (r *release) sumFiles(ctx context.Context, dir, name string) error {
	var b strings.Builder
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		sum, err := sumOf(path)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%x  %s\n", sum, relative)
		return err
	}); err != nil {
		return err
	}
	sums := filepath.Join(dir, name)
	if err := writeFile(sums, []byte(b.String())); err != nil {
		return err
	}
	if r.key == "" {
		return nil
	}
	if _, err := r.output(ctx, "gpg", "--batch", "--yes", "--local-user", r.key, "--output", sums+".sig", "--detach-sign", sums); err != nil {
		return fmt.Errorf("sign %s: %w", name, err)
	}
	return nil
}

func sumOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return hash.Sum(nil), err
}

func sorted(files []file) []file {
	return slices.SortedFunc(slices.Values(files), func(a, b file) int { return cmp.Compare(a.name, b.name) })
}
