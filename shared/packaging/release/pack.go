package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// pack makes a deb and an rpm of each product that is installed on machines.
func (r *release) pack(ctx context.Context) error {
	packagers := []string{"deb", "rpm"}
	if r.draft {
		packagers = packagers[:1]
	}
	for _, config := range []string{"shared/packaging/criu-docker/nfpm.yaml", "shared/packaging/nomad-driver/nfpm.yaml"} {
		for _, packager := range packagers {
			if err := os.MkdirAll(r.staged, 0o755); err != nil {
				return err
			}
			if _, err := r.output(ctx, r.tools.nfpm, "package", "--config", config, "--packager", packager, "--target", r.staged+"/"); err != nil {
				return err
			}
		}
	}
	return nil
}

// debianVersion is what nfpm makes of a version: Debian sorts what follows ~ before a version without it.
func debianVersion(v string) string { return strings.Replace(v, "-", "~", 1) }

// file is one file of an archive.
type file struct {
	name, source string // in the archive, and on the disk
	mode         fs.FileMode
}

// archive makes a tar archive for every machine that has neither of the packages' managers.
func (r *release) archive(context.Context) error {
	common := []file{
		{"LICENSE", filepath.Join(r.source, "LICENSE"), 0o644},
		{"CHANGELOG.md", filepath.Join(r.source, "CHANGELOG.md"), 0o644},
	}
	for _, p := range products {
		if p.name == providerName {
			continue // a registry wants a zip archive
		}
		files := append([]file{{"NOTICE", filepath.Join(r.source, "out/notice", p.name), 0o644}}, common...)
		for _, b := range p.binaries() {
			files = append(files, file{b, filepath.Join(r.source, "out/bin", b), 0o755})
		}
		if p.name == "criu-docker" {
			for to, from := range map[string]string{
				"man": "out/man", "completion": "out/completion", "docs": "docs", "systemd": "shared/packaging/criu-docker",
			} {
				more, err := filesIn(filepath.Join(r.source, from), to)
				if err != nil {
					return err
				}
				files = append(files, more...)
			}
		} else {
			files = append(files, file{"client.hcl", filepath.Join(r.source, "examples/nomad/client.hcl"), 0o644},
				file{"nomad.md", filepath.Join(r.source, "docs/nomad.md"), 0o644})
		}
		name := p.name + "_" + r.version + "_linux_amd64"
		if err := writeTar(filepath.Join(r.staged, name+".tar.gz"), name, files, r.date); err != nil {
			return err
		}
	}
	return nil
}

// filesIn lists what an archive takes of a directory, itself only: of our own sources pages and units, of what was built all.
func filesIn(dir, to string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	var files []file
	for _, e := range entries {
		switch ext := filepath.Ext(e.Name()); {
		case e.IsDir(), to == "docs" && ext != ".md", to == "systemd" && ext != ".service" && ext != ".timer":
			continue
		}
		files = append(files, file{path.Join(to, e.Name()), filepath.Join(dir, e.Name()), 0o644})
	}
	return files, err
}

// writeTar and writeZip write the same bytes for the same contents: names in order, one time, no owners, modes as they are given.
func writeTar(name, top string, files []file, date time.Time) error {
	return writeArchive(name, files, func(w io.Writer) (func(file, int64) (io.Writer, error), func() error) {
		z, _ := gzip.NewWriterLevel(w, gzip.BestCompression) // that level exists
		t := tar.NewWriter(z)
		begin := func(f file, size int64) (io.Writer, error) {
			return t, t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(top, f.name), Size: size, Mode: int64(f.mode), ModTime: date, Format: tar.FormatUSTAR})
		}
		return begin, func() error { return errors.Join(t.Close(), z.Close()) }
	})
}

func writeZip(name string, files []file, date time.Time) error {
	return writeArchive(name, files, func(w io.Writer) (func(file, int64) (io.Writer, error), func() error) {
		z := zip.NewWriter(w)
		begin := func(f file, _ int64) (io.Writer, error) {
			header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: date.UTC()}
			header.SetMode(f.mode)
			return z.CreateHeader(header)
		}
		return begin, z.Close
	})
}

func writeArchive(name string, files []file, format func(io.Writer) (begin func(file, int64) (io.Writer, error), end func() error)) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	begin, end := format(out)
	for _, f := range sorted(files) {
		if err := writeMember(f, begin); err != nil {
			return err
		}
	}
	return end()
}

func writeMember(f file, begin func(file, int64) (io.Writer, error)) error {
	source, err := os.Open(f.source)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	w, err := begin(f, info.Size())
	if err != nil {
		return err
	}
	_, err = io.Copy(w, source)
	return err
}
