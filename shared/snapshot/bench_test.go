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
			b.ReportMetric(float64(cfg.Sizes.Packed)/(1<<20), "MiB-stored")
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
			b.ReportMetric(float64(fi.Size())/(1<<20), "MiB-stored")
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
	b.Log(src.CheckpointDir + " has " + strconv.FormatInt(size>>20, 10) + " MiB")
	return src, size
}

func shell(b *testing.B, script string) {
	b.Helper()
	out, err := exec.Command("sh", "-e", "-c", script).CombinedOutput()
	require.NoError(b, err, string(out))
}
