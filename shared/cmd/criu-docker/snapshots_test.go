package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

func TestListAndInspect(t *testing.T) {
	p := newProgram(t)
	require.Contains(t, p.call("ls").stderr, "publishing makes one", "a store that is not there is no empty one")
	ref := p.ok(p.buildArgs("-e", "MODE=secret value", "--tmpfs", "/scratch", "--expose", "9000", "--link-remap")...)
	dgst := p.digest()

	whole := p.ok("ls", "--no-trunc")
	require.Contains(t, whole, ref)
	require.Contains(t, whole, dgst)
	lines := strings.Split(p.ok("ls"), "\n")
	require.Len(t, lines, 2)
	require.Equal(t, []string{"REF", "IMAGE", "COMMAND", "CREATED", "MEMORY", "STORED", "DIGEST"}, strings.Fields(lines[0]))
	short := strings.Fields(lines[1])[0]
	require.Contains(t, lines[1], tinyImage)
	require.Contains(t, lines[1], dgst[:19])
	require.Len(t, strings.Split(p.ok("ls", ref[:8]), "\n"), 2, "of one image")
	require.Len(t, strings.Split(p.ok("ls", "0000"), "\n"), 1, "of another")

	for _, name := range []string{ref, short, dgst, dgst[:19]} {
		text := p.ok("inspect", name, "--files")
		for _, want := range []string{
			ref, dgst, p.path("store"), tinyImage, "/bin/busybox httpd -f -p 80 -h /www", "MODE", "80/tcp, 9000/tcp",
			"/scratch (tmpfs, read-write)", "busybox", "LISTEN", "Linux ", "CRIU 4", "runc ", "link remap", "tcp close",
			"file locks", "boot", "freeze", "/www", "/scratch (tmpfs, the container's own, read-write)", "/etc/hosts (bind, the host's, read-write)",
		} {
			require.Contains(t, text, want, name)
		}
		require.NotContains(t, text, "secret value", "values are in the memory image only")
	}
	inspected := documents[inspected](t, p.ok("inspect", ref, "--json"))
	require.Len(t, inspected, 1)
	require.Equal(t, ref, inspected[0].Ref)
	require.Len(t, inspected[0].Config.Processes, 1)
	require.Positive(t, inspected[0].Config.Processes[0].RSS)
	require.NotEmpty(t, inspected[0].Layers)

	o := p.call("inspect", "0123/4567")
	require.Equal(t, exitNotFound, o.code)
	require.Contains(t, o.stderr, "0123/4567")
	require.Contains(t, o.stderr, p.path("store"))
}

// What a reviewer should know is found by a real build, and told to people and programs.
func TestInspectRisks(t *testing.T) {
	p := newProgram(t)
	require.NoError(t, os.Mkdir(p.path("www"), 0o755))
	require.NoError(t, os.WriteFile(p.path("www", "index.html"), []byte("it works"), 0o644))
	o := p.call(p.buildArgs("-e", "DB_PASSWORD=in no description", "-v", p.path("www")+":/www:ro", "--after-restore", "signal:WINCH", "--",
		"/bin/sh", "-c", "mkfifo /read /written && exec 3<>/read 4</read 3>&- 5<>/written && exec httpd -f -p 80 -h /www")...)
	require.Zero(t, o.code, o.stderr)
	ref := strings.TrimSpace(o.stdout)
	require.Contains(t, o.stderr, "FIFO /read")
	require.NotContains(t, o.stderr, "FIFO /written", "it has a writer")

	found := map[string]snapshot.Risk{}
	for _, r := range documents[inspected](t, p.ok("inspect", ref, "--json"))[0].Risks {
		found[r.Kind] = r
	}
	require.Equal(t, []string{"DB_PASSWORD"}, found[snapshot.RiskSecrets].Items)
	require.Equal(t, []string{"/www on /www"}, found[snapshot.RiskMountFiles].Items, "its directory")
	require.Equal(t, []string{"signal:WINCH"}, found[snapshot.RiskHooks].Items)
	require.NotEmpty(t, found[snapshot.RiskCPU].Items)
	require.Contains(t, found[snapshot.RiskLosses].Message, "FIFO")
	require.NotContains(t, found, snapshot.RiskAddresses, "it listens on all")

	text := p.ok("inspect", ref)
	for _, want := range []string{"Risks", "DB_PASSWORD", "/www on /www", "FIFO", "docs/cpu.md#processors", "more (--files)"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "in no description")
}

// A ref that can't be read hides nothing, and can be removed.
func TestDamagedRef(t *testing.T) {
	p := newProgram(t)
	ref := strings.Repeat("0", 64) + "/0123456789abcdef/amd64"
	s, err := store.Open(t.Context(), p.path("store"))
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.PutRef(t.Context(), ref, ocispec.Descriptor{Digest: digest.FromString("manifest"), Size: 8}, ""))
	require.NoError(t, os.WriteFile(filepath.Join(p.path("store"), "refs", ref), []byte("{"), 0o600))
	require.Contains(t, p.call("ls").stderr, ref)
	require.Contains(t, p.call("verify", ref).stderr, ref)
	require.Contains(t, p.ok("rm", ref), "removed "+ref)
	p.ok("ls")
}

// What the verification says must be enough to find the file, and nothing that is damaged may pass.
func TestVerify(t *testing.T) {
	p := newProgram(t)
	ref := p.ok(p.buildArgs()...)
	require.Equal(t, "verified "+ref, p.ok("verify", ref))
	st, err := store.Open(p.ctx, p.path("store"))
	require.NoError(t, err)
	defer st.Close()
	entry, err := st.GetRef(p.ctx, ref)
	require.NoError(t, err)
	manifest, err := snapshot.LoadManifest(p.ctx, st, entry.Manifest)
	require.NoError(t, err)

	blobs := []digest.Digest{entry.Manifest.Digest, manifest.Config.Digest}
	for _, layer := range manifest.Layers {
		blobs = append(blobs, layer.Digest)
	}
	for _, blob := range blobs {
		path := p.path("store", "blobs", "sha256", blob.Encoded())
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		last := len(whole) - 1
		for name, content := range map[string][]byte{
			"changed":   append(whole[:last:last], whole[last]^1),
			"truncated": whole[:last],
			"longer":    append(whole[:last+1:last+1], 0),
		} {
			require.NoError(t, os.WriteFile(path, content, 0o600))
			p.requireDamaged(blob, name, "verify", ref)
		}
		require.NoError(t, os.Remove(path))
		p.requireDamaged(blob, "missing", "verify", ref)
		p.requireDamaged(blob, "missing", p.runArgs(tinyImage, "--policy", "always")...)
		require.NoError(t, os.WriteFile(path, whole, 0o600))
	}

	o := p.call("verify", "0123/4567", ref)
	require.Equal(t, exitNotFound, o.code)
	require.Equal(t, "verified "+ref+"\n", o.stdout, "one that is not there does not keep it from the others")
}

func (p *program) requireDamaged(blob digest.Digest, how string, args ...string) {
	p.Helper()
	o := p.call(args...)
	require.Equal(p, exitFailure, o.code, "%s %s: %s", args[0], how, o.stderr)
	require.Empty(p, o.stdout)
	require.Contains(p, o.stderr, blob.Encoded(), "%s %s", args[0], how)
}

func TestRemove(t *testing.T) {
	p := newProgram(t)
	first := p.ok(p.buildArgs()...)
	second := p.ok(p.buildArgs("-e", "MODE=test")...)
	require.NotEqual(t, first, second)
	id := p.ok(p.runArgs(tinyImage, "--policy", "always")...)

	require.Equal(t, "removed "+first, p.ok("rm", first))
	require.NotContains(t, p.ok("ls", "--no-trunc"), first)
	require.Equal(t, "verified "+second, p.ok("verify", second), "what they share stays")
	docker(t, "restart", "-t", "0", id) // is hot, although the store has forgotten the snapshot

	o := p.call("rm", first, second)
	require.Equal(t, exitNotFound, o.code)
	require.Equal(t, "removed "+second+"\n", o.stdout)
	left, err := filepath.Glob(p.path("store", "blobs", "sha256", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestCacheCommands(t *testing.T) {
	p := newProgram(t)
	p.ok(p.buildArgs()...)
	require.Equal(t, []string{"DIGEST", "IMAGE", "SIZE", "USED", "CONTAINERS"}, strings.Fields(p.ok("cache", "ls")))
	id := p.ok(p.runArgs(tinyImage, "--policy", "always")...)
	text := p.ok("cache", "list")
	require.Contains(t, text, p.digest()[:19])
	require.Contains(t, text, id[:12])
	items := documents[cached](t, p.ok("cache", "ls", "--json"))
	require.Len(t, items, 1)
	require.Equal(t, []string{id}, items[0].Containers)
	require.Positive(t, items[0].Bytes)

	require.Equal(t, "removed 0 snapshots, freed 0B", p.ok("cache", "prune"), "it is in use")
	docker(t, "rm", "-f", id) // behind our back
	require.Contains(t, p.ok("cache", "prune"), "removed 1 snapshots, freed ")
	require.Empty(t, documents[cached](t, p.ok("cache", "ls", "--json")))
	require.JSONEq(t, `{"removed": 0, "bytes": 0}`, p.ok("cache", "prune", "--json"))
}

// TestStoreSweep: what killed builds have uploaded goes, and nothing else; not while somebody publishes.
func TestStoreSweep(t *testing.T) {
	p := newProgram(t)
	ref := p.ok(p.buildArgs()...)
	s, err := store.Open(p.ctx, p.path("store"))
	require.NoError(t, err)
	defer s.Close()
	left := []byte("of a build that was killed")
	desc := ocispec.Descriptor{Digest: digest.FromBytes(left), Size: int64(len(left))}
	_, err = s.PutBlob(p.ctx, desc, bytes.NewReader(left))
	require.NoError(t, err)

	done, err := s.Publishing(p.ctx)
	require.NoError(t, err)
	o := p.call("store", "sweep")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, "a snapshot is being published")
	done()

	require.JSONEq(t, `{"event": "swept", "blobs": 1, "bytes": 26, "busy": false}`, p.ok("store", "sweep", "--json"))
	require.Equal(t, "verified "+ref, p.ok("verify", ref))
	o = p.call("store", "sweep")
	require.Zero(t, o.code)
	require.Contains(t, o.stderr, "freed 0B in 0 blobs")
	o = p.call("--store", p.path("nothing"), "store", "sweep")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.stderr, "there is no store in")
	require.NoDirExists(t, p.path("nothing"))
}
