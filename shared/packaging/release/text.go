package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// writeManuals makes man pages, which a test of the command line does as it does its reference, and completions.
func (r *release) writeManuals(ctx context.Context) error {
	pages := filepath.Join(r.source, "out/pages")
	if _, err := r.output(ctx, "go", "test", "-trimpath", "-tags", "disable_grpc_modules", "-count=1", "./shared/cmd/criu-docker", "-run", "^TestManPages$", "-man", pages); err != nil {
		return err
	}
	files, err := os.ReadDir(pages)
	if err != nil {
		return err
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(pages, f.Name()))
		if err != nil {
			return err
		}
		if err := r.writeCompressed(filepath.Join("out/man", f.Name()+".gz"), content); err != nil {
			return err
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := r.output(ctx, filepath.Join(r.source, "out/bin/criu-docker"), "completion", shell)
		if err != nil {
			return err
		}
		if err := r.write(filepath.Join("out/completion", shell), []byte(script+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// writeChangelogs makes ours, and the one that Debian wants of a package.
func (r *release) writeChangelogs(context.Context) error {
	changes, err := os.ReadFile(filepath.Join(r.source, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if err := r.writeCompressed("out/changelog.gz", changes); err != nil {
		return err
	}
	for _, p := range products {
		entry := fmt.Sprintf("%s (%s-1) unstable; urgency=medium\n\n  * Release %s; changelog.gz tells what is new.\n\n -- criu-docker maintainers <maintainers@users.noreply.github.com>  %s\n",
			p.name, debianVersion(r.version), r.version, r.date.UTC().Format(time.RFC1123Z))
		if err := r.writeCompressed(filepath.Join("out/changelog.Debian", p.name+".gz"), []byte(entry)); err != nil {
			return err
		}
	}
	return nil
}

// write puts a file into the clone.
func (r *release) write(name string, content []byte) error {
	return writeFile(filepath.Join(r.source, name), content)
}

func (r *release) writeCompressed(name string, content []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(content); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return r.write(name, b.Bytes())
}

func writeFile(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o644)
}
