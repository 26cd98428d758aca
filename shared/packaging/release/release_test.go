package main

import (
	"archive/zip"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var someDate = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// What a file system says of files, and the umask, make no difference.
func TestArchivesAreReproducible(t *testing.T) {
	archives := func(umask int, date time.Time, order ...string) map[string]string {
		defer syscall.Umask(syscall.Umask(umask))
		dir := t.TempDir()
		var files []file
		for _, name := range order {
			source := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(source, []byte("of "+name), 0o666))
			require.NoError(t, os.Chtimes(source, date, date))
			files = append(files, file{name, source, 0o755})
		}
		require.NoError(t, writeTar(filepath.Join(dir, "x.tar.gz"), "top", files, someDate))
		require.NoError(t, writeZip(filepath.Join(dir, "x.zip"), files, someDate))
		return map[string]string{"tar": read(t, filepath.Join(dir, "x.tar.gz")), "zip": read(t, filepath.Join(dir, "x.zip"))}
	}
	require.Equal(t, archives(0o022, time.Now(), "a", "b"), archives(0o077, someDate.Add(time.Hour), "b", "a"))
}

func TestNoticeHasEachTextOnce(t *testing.T) {
	got := notice("head\n", products[0], []component{{"a", "v1", "MIT", "same"}, {"b", "v2", "MIT", "same"}, {"c", "v3", "ISC", "other"}})
	require.Contains(t, got, "In criu-docker and criu-docker-runc there is")
	require.Contains(t, got, "  b v2: MIT\n")
	require.Equal(t, 1, strings.Count(got, "same"))
	require.Contains(t, got, "\na v1\nb v2\n\nsame\n")

	several := []component{{"a", "v1", "MIT", "one"}, {"a", "v1", "ISC", "two"}, {"a", "v1", "BSD", "three"}}
	for range 20 {
		require.Equal(t, notice("", products[0], several), notice("", products[0], several))
	}
}

func TestUnknownLicenceEndsARelease(t *testing.T) {
	_, err := (&release{source: "."}).component(t.Context(), []string{"example.org/x", "v1", unknown, ""})
	require.ErrorContains(t, err, "example.org/x v1: its licence is not known")
}

// Terraform installs the provider of this tree out of the files that a registry gets.
func TestTerraformInstallsTheProvider(t *testing.T) {
	r := &release{source: t.TempDir(), staged: t.TempDir(), version: "1.2.3", date: someDate}
	build := exec.Command("go", "build", "-trimpath", "-tags", "disable_grpc_modules", "-o", filepath.Join(r.source, "out/bin", providerName), "../../../provider")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.CopyFS(filepath.Join(r.source, "docs/provider"), os.DirFS("../../../docs/provider")))
	for _, name := range []string{"LICENSE", "out/notice/" + providerName} {
		require.NoError(t, r.write(name, []byte("…")))
	}
	require.NoError(t, r.layOutProvider(t.Context()))
	requireInstallable(t, filepath.Join(r.staged, providerName), r.version)
}

// requireInstallable checks the provider's repository, and installs from its dist with terraform init.
func requireInstallable(t *testing.T, repository, version string) {
	t.Helper()
	for _, page := range []string{"index.md", "resources/snapshot.md", "data-sources/snapshots.md", "functions/parse_ref.md"} {
		require.FileExists(t, filepath.Join(repository, "docs", page))
	}
	dist := filepath.Join(repository, "dist")
	prefix := providerName + "_" + version
	require.Equal(t, read(t, filepath.Join(repository, "terraform-registry-manifest.json")), read(t, filepath.Join(dist, prefix+"_manifest.json")))
	require.JSONEq(t, `{"version": 1, "metadata": {"protocol_versions": ["6.0"]}}`, read(t, filepath.Join(dist, prefix+"_manifest.json")))
	requireSums(t, dist, prefix+"_SHA256SUMS")

	archive, err := zip.OpenReader(filepath.Join(dist, prefix+"_linux_amd64.zip"))
	require.NoError(t, err)
	defer archive.Close()
	modes := map[string]os.FileMode{}
	for _, f := range archive.File {
		modes[f.Name] = f.Mode()
	}
	require.Equal(t, map[string]os.FileMode{providerName + "_v" + version: 0o755, "LICENSE": 0o644, "NOTICE": 0o644}, modes)

	dir := t.TempDir()
	mirror := filepath.Join(dir, "mirror/registry.terraform.io/criu-docker/criu")
	require.NoError(t, os.CopyFS(mirror, os.DirFS(dist)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "terraform.rc"),
		[]byte("provider_installation {\n filesystem_mirror {\n path = \""+filepath.Join(dir, "mirror")+"\"\n }\n}\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.tf"),
		[]byte("terraform {\n required_providers {\n criu = {\n source = \"criu-docker/criu\"\n version = \""+version+"\"\n }\n }\n}\nprovider \"criu\" {}\n"), 0o644))
	terraform := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "terraform", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+filepath.Join(dir, "terraform.rc"), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "NO_COLOR=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	require.Contains(t, terraform("init"), "Installed criu-docker/criu v"+version)
	var schemas struct {
		Providers map[string]struct {
			Resources map[string]any `json:"resource_schemas"`
		} `json:"provider_schemas"`
	}
	require.NoError(t, json.Unmarshal([]byte(terraform("providers", "schema", "-json")), &schemas))
	require.Contains(t, schemas.Providers["registry.terraform.io/criu-docker/criu"].Resources, "criu_snapshot")
}

// requireSums has sha256sum check a file of checksums, which names all that there is.
func requireSums(t *testing.T, dir, name string) {
	t.Helper()
	check := exec.Command("sha256sum", "--check", "--strict", "--quiet", name)
	check.Dir = dir
	out, err := check.CombinedOutput()
	require.NoError(t, err, string(out))
	var files int
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path != filepath.Join(dir, name) && path != filepath.Join(dir, name+".sig") {
			files++
		}
		return err
	}))
	require.Equal(t, files, strings.Count(read(t, filepath.Join(dir, name)), "\n"))
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}
