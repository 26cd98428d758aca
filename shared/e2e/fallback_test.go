package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/pages"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// Every reason for which a snapshot can't be used: with if_present the container boots cold and the reason is told;
// with always it is not started.
func TestColdBootTellsWhy(t *testing.T) {
	tests := []struct {
		name   string
		change func(l *lab, o *restore.Options, b *build.Result)
		reason string
	}{
		{"no snapshot of the image", func(l *lab, _ *restore.Options, b *build.Result) {
			require.NoError(l, l.store.DeleteRef(l.ctx, b.Ref.String(), l.entry(b).Generation))
		}, "has none of image sha256:"},
		{"command", func(_ *lab, o *restore.Options, _ *build.Result) {
			o.Spec.Config.Cmd = []string{"httpd", "-f", "-v", "-p", "80", "-h", "/www"}
		}, "the snapshot's command is"},
		{"user", func(_ *lab, o *restore.Options, _ *build.Result) { o.Spec.Config.User = "1:1" }, `the container's is "1:1"`},
		{"working directory", func(_ *lab, o *restore.Options, _ *build.Result) { o.Spec.Config.WorkingDir = "/www" }, "working directory"},
		{"environment", func(_ *lab, o *restore.Options, _ *build.Result) {
			o.Spec.Config.Env = []string{"DEBUG=secret"}
		}, "the container sets the environment variable DEBUG, which the snapshot does not have"},
		{"mount", func(_ *lab, o *restore.Options, _ *build.Result) {
			o.Spec.Host.Tmpfs = map[string]string{"/scratch": ""}
		}, "the container mounts /scratch, which the snapshot does not have"},
		{"capabilities", func(_ *lab, o *restore.Options, _ *build.Result) {
			o.Spec.Host.CapDrop = []string{"MKNOD"}
		}, "capabilities"},
		{"architecture", func(l *lab, _ *restore.Options, b *build.Result) {
			l.republish(b, func(c *snapshot.Config) { c.Image.Arch = "arm64" })
		}, "architecture"},
		{"another image", func(l *lab, _ *restore.Options, b *build.Result) {
			l.republish(b, func(c *snapshot.Config) { c.Image.ID = digest.FromString("another") })
		}, "the snapshot's image is"},
		{"CPU", func(l *lab, _ *restore.Options, b *build.Result) {
			l.republish(b, func(c *snapshot.Config) { c.Host.CPUFeatures = append(c.Host.CPUFeatures, "from_the_future") })
		}, "from_the_future"},
		{"xsave area", func(l *lab, _ *restore.Options, b *build.Result) {
			l.republish(b, func(c *snapshot.Config) { c.Host.XSaveSize++ })
		}, "xsave"},
		{"CRIU", func(l *lab, _ *restore.Options, b *build.Result) {
			l.republish(b, func(c *snapshot.Config) { c.Host.CRIU = "99.0" })
		}, "99.0"},
		{"blob corrupt", func(l *lab, _ *restore.Options, b *build.Result) {
			l.damage(b, func(blob string) { require.NoError(l, os.WriteFile(blob, []byte("garbage"), 0o600)) })
		}, store.ErrCorrupt.Error()},
		{"blob truncated", func(l *lab, _ *restore.Options, b *build.Result) {
			l.damage(b, func(blob string) { require.NoError(l, os.Truncate(blob, 10)) })
		}, store.ErrCorrupt.Error()},
		{"blob missing", func(l *lab, _ *restore.Options, b *build.Result) {
			l.damage(b, func(blob string) { require.NoError(l, os.Remove(blob)) })
		}, store.ErrNotFound.Error()},
		{"store down", func(l *lab, _ *restore.Options, _ *build.Result) { // buckets that are: see the Nomad driver's tests
			root := filepath.Join(l.dir, "store")
			require.NoError(l, os.Rename(root, root+"-unmounted"))
			require.NoError(l, os.WriteFile(root, nil, 0o600))
		}, "is its file system mounted"},
		{"CRIU's own error", func(l *lab, _ *restore.Options, b *build.Result) {
			entry, err := l.cache.Get(l.ctx, l.store, b.Manifest)
			require.NoError(l, err)
			defer entry.Release()
			// Of the right size, so that only CRIU can see it.
			core := filepath.Join(entry.Dir, "checkpoint", "core-1.img")
			info, err := os.Stat(core)
			require.NoError(l, err)
			require.NoError(l, os.WriteFile(core, make([]byte, info.Size()), 0o600))
			require.NoError(l, pages.WriteSums(filepath.Join(entry.Dir, "checkpoint")), "as if it were meant")
		}, "CRIU: "},
	}
	original := newLab(t)
	built := original.build(original.spec(tiny, ""), tinyReady)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			require.NoError(t, os.CopyFS(filepath.Join(l.dir, "store"), os.DirFS(filepath.Join(original.dir, "store"))))
			options := func() restore.Options {
				return restore.Options{Spec: l.spec(tiny, ""), Policy: restore.PolicyIfPresent, Store: l.store, Cache: l.cache}
			}
			o := options()
			tt.change(l, &o, built)

			result, err := restore.Run(l.ctx, l.eng, o)
			require.NoError(t, err)
			require.Equal(t, restore.Cold, result.Start)
			require.Contains(t, result.Reason, tt.reason)
			require.NotContains(t, result.Reason, "secret")
			require.Contains(t, l.mustGet("http://"+l.ip(result.ContainerID)+"/"), "It works")

			o.Policy = restore.PolicyAlways
			_, err = restore.Run(l.ctx, l.eng, o)
			require.ErrorContains(t, err, tt.reason)
			require.Len(t, l.containers(), 1, "nothing is left of the failed start")
		})
	}
}

// republish replaces the snapshot by one with a changed config.
func (l *lab) republish(b *build.Result, change func(*snapshot.Config)) {
	l.Helper()
	manifest, cfg, err := snapshot.Load(l.ctx, l.store, b.Manifest)
	require.NoError(l, err)
	change(&cfg)
	manifest.Config = l.putJSON(manifest.Config.MediaType, cfg)
	require.NoError(l, l.store.PutRef(l.ctx, b.Ref.String(), l.putJSON(b.Manifest.MediaType, manifest), l.entry(b).Generation))
}

func (l *lab) putJSON(mediaType string, v any) ocispec.Descriptor {
	l.Helper()
	content, err := json.Marshal(v)
	require.NoError(l, err)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	_, err = l.store.PutBlob(l.ctx, desc, bytes.NewReader(content))
	require.NoError(l, err)
	return desc
}

// damage does something to a blob that holds memory.
func (l *lab) damage(b *build.Result, do func(file string)) {
	l.Helper()
	manifest, _, err := snapshot.Load(l.ctx, l.store, b.Manifest)
	require.NoError(l, err)
	frame := manifest.Layers[len(manifest.Layers)-1]
	do(filepath.Join(l.dir, "store", "blobs", "sha256", frame.Digest.Encoded()))
}

func (l *lab) entry(b *build.Result) store.Entry {
	l.Helper()
	entry, err := l.store.GetRef(l.ctx, b.Ref.String())
	require.NoError(l, err)
	return entry
}

func TestFreezeTellsWhatToSet(t *testing.T) {
	l := newLab(t)
	// The app talks to a unix socket outside its container: the engine's own is as good as any.
	spec := l.spec(redmine, "")
	spec.Config.Entrypoint = []string{"ruby", "-rsocket", "-e", `$stdout.sync = true; s = UNIXSocket.new("/var/run/docker.sock"); puts "up"; sleep`}
	spec.Host.Binds = []string{"/var/run/docker.sock:/var/run/docker.sock"}
	_, err := l.tryBuild(spec, build.Probe{Type: build.ProbeLog, Pattern: "up"}, criu.DefaultOptions())
	var failure *criu.Failure
	require.ErrorAs(t, err, &failure)
	require.Contains(t, failure.Remedy, "ext_unix_sk = true")
	require.Empty(t, l.containers(), "the donor is gone")
}

func TestDonorThatIsNeverReady(t *testing.T) {
	l := newLab(t)
	_, err := l.tryBuild(l.spec(tiny, "echo no such database; exit 3"), tinyReady, criu.DefaultOptions())
	require.ErrorIs(t, err, build.ErrNotReady)
	require.ErrorContains(t, err, "exit code 3")
	require.ErrorContains(t, err, "no such database")
	require.Empty(t, l.containers(), "the donor is gone")
	_, err = l.store.ListRefs(l.ctx, "")
	require.ErrorIs(t, err, store.ErrNoStore, "nothing was published")
}

func TestImageThatMoved(t *testing.T) {
	l := newLab(t)
	_, err := build.Snapshot(l.ctx, l.eng, build.Options{
		Spec: engine.Spec{Config: &container.Config{Image: tiny}}, ImageID: digest.FromString("planned"),
		Ready: tinyReady, Checkpoint: criu.DefaultOptions(), Store: l.store,
	})
	require.ErrorIs(t, err, build.ErrImageMoved)
}
