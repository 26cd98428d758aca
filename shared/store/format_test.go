package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/hook"
	"github.com/criu-docker/criu-docker/shared/mountfiles"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

func formatDoc(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/format.md")
	require.NoError(t, err)
	return string(b)
}

func TestFormatNamesTypesAndLimits(t *testing.T) {
	doc := formatDoc(t)
	for _, name := range []string{
		snapshot.ArtifactType, snapshot.MediaTypeConfig, snapshot.MediaTypeFiles, snapshot.MediaTypePages, snapshot.MediaTypeRootfs,
		snapshot.MediaTypeMountFiles,
		snapshot.AnnotationFile, snapshot.AnnotationExtents, snapshot.AnnotationFirst, snapshot.AnnotationLength, snapshot.AnnotationOptional,
		blobPrefix + "HEX", refPrefix + "IMAGE", lockPrefix + "UUID",
	} {
		require.Contains(t, doc, "`"+name)
	}
	for _, limit := range []int{
		snapshot.FrameSize, snapshot.FirstFrameSize, snapshot.FrameSize + snapshot.FrameSize/64, snapshot.PageSize,
		snapshot.MaxManifestSize, snapshot.MaxConfigSize, maxRef, mountfiles.MaxBytes, mountfiles.MaxEntries, mountfiles.MaxName, mountfiles.MaxLength,
	} {
		require.Regexp(t, fmt.Sprintf(`\b%d\b`, limit), doc)
	}
	require.Contains(t, doc, fmt.Sprintf("%.0f minutes", lockStale.Minutes()))
	require.Equal(t, time.Minute, lockRefresh, "the document says every minute")
	for _, name := range []string{"HOSTNAME", "CONSUL_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN", "NOMAD_"} {
		require.Contains(t, doc, "`"+name+"`")
		require.True(t, snapshot.PerAllocation(name))
	}
}

// Every member of the config has a row in the table, and every row a member.
func TestFormatNamesConfigMembers(t *testing.T) {
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.*\\[\\]]+)` \\| ([a-z ]+) \\| (always|if set) \\|").FindAllStringSubmatch(formatDoc(t), -1) {
		documented = append(documented, strings.Join(row[1:], ", "))
	}
	members := configMembers(reflect.TypeFor[snapshot.Config](), "")
	require.ElementsMatch(t, append(members, configMembers(reflect.TypeFor[hook.Hook](), "hooks.*[].")...), documented)
}

// configMembers lists "member, type, presence" of a struct's JSON.
func configMembers(t reflect.Type, prefix string) []string {
	var list []string
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Anonymous {
			list = append(list, configMembers(field.Type, prefix)...)
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		member, presence := prefix+name, "always"
		if strings.Contains(options, "omitempty") {
			presence = "if set"
		}
		kind := ""
		switch f := field.Type; {
		case f == reflect.TypeFor[time.Time]():
			kind = "time"
		case f == reflect.TypeFor[digest.Digest]():
			kind = "digest"
		case f.Kind() == reflect.Struct:
			list = append(list, configMembers(f, member+".")...)
		case f.Kind() == reflect.Slice && f.Elem() == t:
			kind = "list of processes"
		case f == reflect.TypeFor[[]hook.Hook]():
			kind = "list of hooks"
		case f == reflect.TypeFor[[]netip.Addr]():
			kind = "list of strings"
		case f.Kind() == reflect.Slice && f.Elem().Kind() == reflect.Struct:
			list = append(list, configMembers(f.Elem(), member+"[].")...)
		case f.Kind() == reflect.Slice, f == reflect.TypeFor[*[]string]():
			kind = "list of strings"
		case f.Kind() == reflect.Map:
			kind = "map of strings"
		case f.Kind() == reflect.String:
			kind = "string"
		case f.Kind() == reflect.Bool:
			kind = "boolean"
		default:
			kind = "integer"
		}
		if kind != "" {
			list = append(list, member+", "+kind+", "+presence)
		}
	}
	return list
}

func TestFormatExamples(t *testing.T) {
	doc := formatDoc(t)
	example := func(name string, v any) {
		t.Helper()
		_, text, ok := strings.Cut(doc, "```json "+name+"\n")
		require.True(t, ok, name)
		text, _, _ = strings.Cut(text, "```")
		strict := json.NewDecoder(strings.NewReader(text))
		strict.DisallowUnknownFields()
		require.NoError(t, strict.Decode(v), name)
	}
	var manifest ocispec.Manifest
	example("manifest", &manifest)
	require.Equal(t, snapshot.ArtifactType, manifest.ArtifactType)
	var config snapshot.Config
	example("config", &config)
	require.Equal(t, config.Image.ID.String(), manifest.Annotations["io.github.criu-docker.image-id"])
	var ref ocispec.Descriptor
	example("ref", &ref)
	require.Equal(t, manifest.MediaType, ref.MediaType)
	var lock lockBody
	example("lock", &lock)
	require.Equal(t, lockPublish, lock.Kind)

	var f struct {
		Image                  digest.Digest
		Env, Hashed            map[string]string
		Run                    snapshot.RunConfig
		Canonical, Fingerprint string
	}
	example("fingerprint", &f)
	for name, value := range f.Env {
		require.Equal(t, f.Hashed[name], snapshot.HashEnv(f.Image, name, value))
	}
	sum := sha256.Sum256([]byte(f.Canonical))
	require.Equal(t, hex.EncodeToString(sum[:8]), f.Fingerprint)
	require.Equal(t, f.Fingerprint, f.Run.Fingerprint())
}

// A reader that knows the document alone, and none of this program, finds what was packed.
func TestFormatIsEnoughToReadASnapshot(t *testing.T) {
	ctx := context.Background()
	root := filepath.Join(t.TempDir(), "store")
	s, err := Open(ctx, root)
	require.NoError(t, err)
	files := map[string][]byte{
		"inventory.img": []byte("small"),
		"pages-1.img":   randomBytes(1, 2*4194304+3*4096),
		"pages-2.img":   randomBytes(2, 4096),
	}
	delta := randomBytes(3, 70000)
	mounts := archive(t)
	publishFiles(t, s, files, delta, mounts, snapshot.Range{File: "pages-1.img", Offset: 4194304, Length: 1 << 20}, snapshot.Range{File: "pages-1.img", Length: 8192})

	marker, err := os.ReadFile(filepath.Join(root, ".store"))
	require.NoError(t, err)
	require.Equal(t, "{\"criu-docker-store\": 1}\n", string(marker))
	refs, err := filepath.Glob(filepath.Join(root, "refs", "*", "*", "*"))
	require.NoError(t, err)
	require.Len(t, refs, 1)
	r := documentReader{t, root}
	manifest := r.object(r.blob(r.descriptor(r.object(readFile(t, refs[0])))))
	require.Equal(t, "application/vnd.criu-docker.snapshot.v1", manifest["artifactType"])
	config := r.object(r.blob(r.descriptor(manifest["config"].(map[string]any))))
	sizes := config["sizes"].(map[string]any)

	got := map[string][]byte{}
	var packed float64
	var first []string
	for _, entry := range manifest["layers"].([]any) {
		layer := entry.(map[string]any)
		annotations := layer["annotations"].(map[string]any)
		packed += layer["size"].(float64)
		content := r.decompress(r.blob(r.descriptor(layer)))
		require.Equal(t, annotations["io.github.criu-docker.length"], strconv.Itoa(len(content)))
		switch layer["mediaType"] {
		case "application/vnd.criu-docker.checkpoint.v1.tar+zstd":
			r.untar(content, got)
		case "application/vnd.oci.image.layer.v1.tar+zstd":
			require.True(t, bytes.Equal(delta, content))
			require.EqualValues(t, sizes["rootfs"], len(content))
		case "application/vnd.criu-docker.mounts.v1.tar+zstd":
			require.Equal(t, "true", annotations["io.github.criu-docker.optional"])
			require.Equal(t, mounts, content)
			require.EqualValues(t, sizes["mount_files"], len(content))
			mounts = nil
		case "application/vnd.criu-docker.pages.v2+zstd":
			name := annotations["io.github.criu-docker.file"].(string)
			if annotations["io.github.criu-docker.first"] == "true" {
				first = append(first, annotations["io.github.criu-docker.extents"].(string))
			}
			got[name] = r.place(got[name], annotations["io.github.criu-docker.extents"].(string), content)
		default:
			t.Fatalf("unknown layer %v", layer)
		}
	}
	require.Nil(t, mounts, "its layer is there")
	require.Equal(t, []string{"0+2,1022+254", "1278+2"}, first)
	require.Equal(t, len(files), len(got))
	for name, want := range files {
		require.True(t, bytes.Equal(want, got[name]), name)
	}
	require.EqualValues(t, len(got["pages-1.img"])+len(got["pages-2.img"]), sizes["memory"])
	require.EqualValues(t, len(got["inventory.img"]), sizes["checkpoint"])
	require.EqualValues(t, packed, sizes["packed"])
}

// documentReader reads a directory as docs/format.md says, with nothing but the standard library and zstd.
type documentReader struct {
	*testing.T
	root string
}

func (r documentReader) object(b []byte) map[string]any {
	r.Helper()
	var v map[string]any
	require.NoError(r, json.Unmarshal(b, &v))
	return v
}

func (r documentReader) descriptor(v map[string]any) (hexDigest string, size int) {
	r.Helper()
	hexDigest, ok := strings.CutPrefix(v["digest"].(string), "sha256:")
	require.True(r, ok)
	return hexDigest, int(v["size"].(float64))
}

func (r documentReader) blob(hexDigest string, size int) []byte {
	r.Helper()
	b := readFile(r, filepath.Join(r.root, "blobs", "sha256", hexDigest))
	require.Len(r, b, size)
	sum := sha256.Sum256(b)
	require.Equal(r, hexDigest, hex.EncodeToString(sum[:]))
	return b
}

func (r documentReader) decompress(b []byte) []byte {
	r.Helper()
	decoder, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderMaxWindow(8388608))
	require.NoError(r, err)
	defer decoder.Close()
	content, err := io.ReadAll(decoder)
	require.NoError(r, err)
	return content
}

func (r documentReader) untar(b []byte, files map[string][]byte) {
	r.Helper()
	for archive := tar.NewReader(bytes.NewReader(b)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(r, err)
		require.Equal(r, byte(tar.TypeReg), header.Typeflag)
		require.EqualValues(r, 0o600, header.Mode)
		require.NotContains(r, files, header.Name)
		files[header.Name], err = io.ReadAll(archive)
		require.NoError(r, err)
	}
}

// place puts a frame's pages where they belong in a file.
func (r documentReader) place(file []byte, extents string, content []byte) []byte {
	r.Helper()
	at := 0
	for extent := range strings.SplitSeq(extents, ",") {
		var skip, count int
		_, err := fmt.Sscanf(extent, "%d+%d", &skip, &count)
		require.NoError(r, err)
		at += skip * 4096
		if missing := at + count*4096 - len(file); missing > 0 {
			file = append(file, make([]byte, missing)...)
		}
		at += copy(file[at:], content[:count*4096])
		content = content[count*4096:]
	}
	require.Empty(r, content)
	return file
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func randomBytes(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// archive makes one of files of mounts.
func archive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "data/", Mode: 0o1777, Uid: 1, Gid: 1, Format: tar.FormatPAX}))
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "data/log", Size: 4, Mode: 0o600, ModTime: time.Unix(1, 2), Format: tar.FormatPAX}))
	_, err := w.Write([]byte("line"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// publishFiles packs a checkpoint, a container-layer delta and files of mounts, and names the snapshot.
func publishFiles(t *testing.T, s Store, files map[string][]byte, delta, mounts []byte, first ...snapshot.Range) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	src := snapshot.Source{CheckpointDir: filepath.Join(dir, "images"), RootfsTar: filepath.Join(dir, "delta"), TempDir: dir, First: first}
	require.NoError(t, os.Mkdir(src.CheckpointDir, 0o700))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(src.CheckpointDir, name), content, 0o600))
	}
	require.NoError(t, os.WriteFile(src.RootfsTar, delta, 0o600))
	src.MountFiles = filepath.Join(dir, "mounts")
	require.NoError(t, os.WriteFile(src.MountFiles, mounts, 0o600))
	manifest, config, err := snapshot.Pack(ctx, s, src)
	require.NoError(t, err)
	ref := snapshot.Ref{Image: digest.FromString("image"), Fingerprint: config.Run.Fingerprint(), Arch: "amd64"}
	require.NoError(t, s.PutRef(ctx, ref.String(), manifest, ""))
}
