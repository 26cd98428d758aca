package snapshot_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
)

var images = flag.String("images", "", "checkpoint directory that the benchmarks pack, instead of one that is made up")

// What one would use without this package: a tar of the checkpoint, compressed.
var archivers = map[string]string{"tar+gzip": "gzip", "tar+zstd": "zstd -q"}

func BenchmarkPack(b *testing.B) {
	src, size := benchmarkSource(b)
	b.Run("snapshot", func(b *testing.B) {
		b.SetBytes(size)
		for range b.N {
			_, cfg, err := snapshot.Pack(context.Background(), openStore(b), src)
			require.NoError(b, err)
			reportSize(b, cfg.Sizes.Packed, size)
		}
	})
	for name, archiver := range archivers {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			archive := filepath.Join(b.TempDir(), "archive")
			for range b.N {
				shell(b, "tar -C "+src.CheckpointDir+" -c . | "+archiver+" > "+archive)
			}
			fi, err := os.Stat(archive)
			require.NoError(b, err)
			reportSize(b, fi.Size(), size)
		})
	}
}

func BenchmarkUnpack(b *testing.B) {
	src, size := benchmarkSource(b)
	st := openStore(b)
	manifest, _, err := snapshot.Pack(context.Background(), st, src)
	require.NoError(b, err)
	into := b.TempDir()
	next := func() string {
		require.NoError(b, os.RemoveAll(filepath.Join(into, "d")))
		return filepath.Join(into, "d")
	}
	b.Run("snapshot", func(b *testing.B) {
		b.SetBytes(size)
		for range b.N {
			_, err := unpack(context.Background(), st, manifest, next())
			require.NoError(b, err)
		}
	})
	for name, archiver := range archivers {
		b.Run(name, func(b *testing.B) {
			archive := filepath.Join(b.TempDir(), "archive")
			shell(b, "tar -C "+src.CheckpointDir+" -c . | "+archiver+" > "+archive)
			b.SetBytes(size)
			for b.Loop() {
				dir := next()
				shell(b, "mkdir "+dir+" && "+archiver+" -d < "+archive+" | tar -C "+dir+" -x")
			}
		})
	}
}

// BenchmarkReadFrame decompresses all frames, one after the other.
func BenchmarkReadFrame(b *testing.B) {
	ctx := context.Background()
	src, _ := benchmarkSource(b)
	st := openStore(b)
	desc, cfg, err := snapshot.Pack(ctx, st, src)
	require.NoError(b, err)
	m, err := snapshot.LoadManifest(ctx, st, desc)
	require.NoError(b, err)
	frames, err := snapshot.Frames(m)
	require.NoError(b, err)
	b.SetBytes(cfg.Sizes.Memory)
	for b.Loop() {
		for _, f := range frames {
			_, release, err := snapshot.ReadFrame(ctx, st, f)
			require.NoError(b, err)
			release()
		}
	}
}

// reportSize reports what is stored of so many bytes.
func reportSize(b *testing.B, stored, size int64) {
	b.Helper()
	b.ReportMetric(float64(stored)/(1<<20), "MiB-stored")
	b.ReportMetric(float64(stored)/float64(size), "ratio")
}

// benchmarkSource is a checkpoint and the bytes in it.
func benchmarkSource(b *testing.B) (snapshot.Source, int64) {
	b.Helper()
	src := source(b, map[string][]byte{"inventory.img": {1}, "pages-1.img": memory(1, 256<<20)}, nil)
	if *images != "" {
		src.CheckpointDir = *images
	}
	entries, err := os.ReadDir(src.CheckpointDir)
	require.NoError(b, err)
	var size int64
	for _, e := range entries {
		fi, err := e.Info()
		require.NoError(b, err)
		size += fi.Size()
	}
	for off := int64(0); off < size/4; off += 4 * snapshot.PageSize { // as much, and as scattered, as Redmine needs
		at := off * 7 % (size / snapshot.PageSize * snapshot.PageSize)
		src.First = append(src.First, snapshot.Range{File: "pages-1.img", Offset: at, Length: 4 * snapshot.PageSize})
	}
	b.Log(src.CheckpointDir + " has " + strconv.FormatInt(size>>20, 10) + " MiB")
	return src, size
}

func shell(b *testing.B, script string) {
	b.Helper()
	out, err := exec.Command("sh", "-e", "-c", script).CombinedOutput()
	require.NoError(b, err, string(out))
}
