package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
)

// providerName is what the registries of Terraform and OpenTofu want the repository and its files to be called.
const providerName = "terraform-provider-criu"

// layOutProvider makes what goes into the repository terraform-provider-criu, whose root the registries read the manual from, and
// in dist the files of its release, which are signed together.
func (r *release) layOutProvider(ctx context.Context) error {
	repository := filepath.Join(r.staged, providerName)
	if err := os.CopyFS(filepath.Join(repository, "docs"), os.DirFS(filepath.Join(r.source, "docs/provider"))); err != nil {
		return err
	}
	manifest, err := json.MarshalIndent(map[string]any{"version": 1, "metadata": map[string]any{"protocol_versions": []string{"6.0"}}}, "", "  ")
	if err != nil {
		return err
	}
	manifest = append(manifest, '\n')
	prefix := filepath.Join(repository, "dist", providerName+"_"+r.version)
	for name, content := range map[string][]byte{
		filepath.Join(repository, "terraform-registry-manifest.json"): manifest,
		prefix + "_manifest.json":                                     manifest,
		filepath.Join(repository, "README.md"): []byte("# Terraform provider criu\n\nThe manual is in [docs](docs/index.md), the source in https://github.com/criu-docker/criu-docker, " +
			"from a commit of which all of this was made.\n"),
	} {
		if err := writeFile(name, content); err != nil {
			return err
		}
	}
	notice := filepath.Join(r.source, "out/notice", providerName)
	license := filepath.Join(r.source, "LICENSE")
	for name, source := range map[string]string{"LICENSE": license, "NOTICE": notice} {
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(repository, name), content); err != nil {
			return err
		}
	}
	if err := writeZip(prefix+"_linux_amd64.zip", []file{
		{providerName + "_v" + r.version, filepath.Join(r.source, "out/bin", providerName), 0o755},
		{"LICENSE", license, 0o644},
		{"NOTICE", notice, 0o644},
	}, r.date); err != nil {
		return err
	}
	return r.sumFiles(ctx, filepath.Join(repository, "dist"), providerName+"_"+r.version+"_SHA256SUMS")
}
