package snapshot_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// Environment of the child process whose memory is measured: what it does, and where.
const (
	childTask = "SNAPSHOT_TEST_TASK"
	childDir  = "SNAPSHOT_TEST_DIR"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(childTask); task != "" {
		if err := child(task, os.Getenv(childDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// However large a snapshot is, packing, verifying and unpacking it needs no more than 64 MiB and the frames in flight, each
// with what its encoder needs when it is packed. The collector is told to keep to that as well: garbage that waits for it is not what is
// asked, and depends on how busy the machine is.
func TestMemoryIsBounded(t *testing.T) {
	const (
		processors = 8 // of a large machine; as many frames are in flight
		inFlight   = processors * (2*snapshot.FrameSize + snapshot.FrameSize/64)
		encoders   = processors * 5 << 20
		bound      = 64<<20 + inFlight
		code       = 24 << 20 // what the program itself maps
	)
	dir := t.TempDir()
	images := filepath.Join(dir, "images")
	require.NoError(t, os.Mkdir(images, 0o700))
	writeSparse(t, filepath.Join(images, "pages-1.img"), 1<<30)
	writeSparse(t, filepath.Join(images, "ghost-file-1.img"), 256<<20)
	writeSparse(t, filepath.Join(dir, "rootfs.tar"), 256<<20)
	for _, task := range []string{"pack", "verify", "unpack"} {
		bound := bound
		if task == "pack" {
			bound += encoders
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childTask+"="+task, childDir+"="+dir, "GOMAXPROCS="+strconv.Itoa(processors), "GOMEMLIMIT="+strconv.Itoa(bound-code))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		require.NoError(t, err, task)
		peak, err := strconv.Atoi(strings.TrimSpace(string(out)))
		require.NoError(t, err)
		t.Logf("%s: %d MiB of at most %d", task, peak>>20, bound>>20)
		require.LessOrEqual(t, peak, bound, task)
	}
}

// writeSparse writes a file of which a sixteenth is random and the rest a hole.
func writeSparse(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Truncate(size))
	noise := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 1<<20)
	for off := int64(0); off < size; off += 16 << 20 {
		_, _ = noise.Read(b) // never fails
		_, err := f.WriteAt(b, off)
		require.NoError(t, err)
	}
}

// child does its task and prints the most memory that it had.
func child(task, dir string) error {
	ctx := context.Background()
	st, err := store.Open(ctx, filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	if task == "pack" {
		src := snapshot.Source{CheckpointDir: filepath.Join(dir, "images"), RootfsTar: filepath.Join(dir, "rootfs.tar"), TempDir: dir}
		manifest, _, err := snapshot.Pack(ctx, st, src)
		if err == nil {
			err = st.PutRef(ctx, "a/b/c", manifest, "")
		}
		return printPeak(err)
	}
	ref, err := st.GetRef(ctx, "a/b/c")
	if err != nil {
		return err
	}
	if task == "verify" {
		return printPeak(snapshot.Verify(ctx, st, ref.Manifest))
	}
	into := filepath.Join(dir, "unpacked")
	if err := os.Mkdir(into, 0o700); err != nil {
		return err
	}
	_, err = unpack(ctx, st, ref.Manifest, into)
	return printPeak(err)
}

// printPeak prints the largest resident size that this process had, in bytes.
func printPeak(err error) error {
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib int
		if n, _ := fmt.Sscanf(lines.Text(), "VmHWM: %d kB", &kib); n == 1 {
			fmt.Println(kib << 10)
			return nil
		}
	}
	return fmt.Errorf("%s tells no peak", f.Name())
}
