package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/stretchr/testify/require"
)

// fallback is a reason for which a task cannot be restored.
type fallback struct {
	name    string
	store   func(t *testing.T, dir string) string // makes the store's address from a directory with a fitting snapshot
	hcl     string
	edit    func(*drivers.TaskConfig)
	reason  string // regular expression, within the first sentence of the event
	forGood bool   // another attempt on the same node cannot succeed
}

var fallbacks = []fallback{
	{name: "no store", store: func(_ *testing.T, dir string) string { return dir + "-none" }, reason: `there is no store in \S+-none`},
	{name: "no snapshot", store: emptyStore, reason: `no fitting snapshot: \S+ has none of image sha256:`},
	{name: "store that is down", store: bucketThatIsDown, hcl: `snapshot { timeout = "3s" }`, reason: `within 3s.* gs://bucket`},
	{name: "store that hangs", store: bucketThatHangs, hcl: `snapshot { timeout = "3s" }`, reason: `within 3s.* gs://bucket`},
	{name: "corrupt blob", store: corruptStore, reason: "corrupt"},
	{name: "no such ref", hcl: `snapshot { ref = "sha256:` + zeros + `" }`, reason: "no fitting snapshot: "},
	{
		name: "environment", edit: func(cfg *drivers.TaskConfig) { cfg.Env["APP"] = "other" },
		reason: "the environment variable APP has another value in the snapshot", forGood: true,
	},
	{
		name: "more environment", edit: func(cfg *drivers.TaskConfig) { cfg.Env["DEBUG"] = "top secret" },
		reason: "the container sets the environment variable DEBUG, which the snapshot does not have", forGood: true,
	},
	{
		name: "less environment", edit: func(cfg *drivers.TaskConfig) { delete(cfg.Env, "APP") },
		reason: "the snapshot has the environment variable APP, which the container does not set", forGood: true,
	},
	{name: "mounts", hcl: `volumes = ["local/data:/extra"]`, reason: "the container mounts /extra, which the snapshot does not have", forGood: true},
	{name: "user", edit: func(cfg *drivers.TaskConfig) { cfg.User = "1000" }, reason: `the snapshot's user is "root" and the container's is "1000"`, forGood: true},
	{name: "working directory", hcl: `work_dir = "/tmp"`, reason: `working directory is "/" and the container's is "/tmp"`, forGood: true},
	{name: "privileges", hcl: `cap_add = ["sys_time"]`, reason: "capabilities is .* in the snapshot and .*SYS_TIME", forGood: true},
	{name: "terminal", hcl: `tty = true`, reason: "the container has a terminal", forGood: true},
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func emptyStore(t *testing.T, dir string) string {
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "refs")))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "refs"), 0o755))
	return dir
}

// corruptStore changes every blob with memory and files, so that whichever is read first does not match its digest.
func corruptStore(t *testing.T, dir string) string {
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, blobs)
	for _, blob := range blobs {
		content, err := os.ReadFile(blob)
		require.NoError(t, err)
		if content[0] == '{' {
			continue // manifest and config
		}
		content[len(content)/2] ^= 0xff
		require.NoError(t, os.Chmod(blob, 0o644))
		require.NoError(t, os.WriteFile(blob, content, 0o644))
	}
	return dir
}

func bucketThatIsDown(t *testing.T, _ string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Setenv("STORAGE_EMULATOR_HOST", "http://"+listener.Addr().String())
	require.NoError(t, listener.Close())
	return "gs://bucket"
}

// bucketThatHangs takes connections and says nothing.
func bucketThatHangs(t *testing.T, _ string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	t.Setenv("STORAGE_EMULATOR_HOST", "http://"+listener.Addr().String())
	return "gs://bucket"
}

// What cannot be restored is booted cold and the task's event says why. With policy "always" the task fails with that
// reason, for good where another attempt cannot help, and nothing is left.
func TestFallback(t *testing.T) {
	original := filepath.Join(t.TempDir(), "store")
	publisher := newTestbed(t, "")
	publishCounter(t, publisher.engine, original, "APP=shop")

	for _, f := range fallbacks {
		t.Run(f.name, func(t *testing.T) {
			address := filepath.Join(t.TempDir(), "store")
			require.NoError(t, os.CopyFS(address, os.DirFS(original)))
			if f.store != nil {
				address = f.store(t, address)
			}
			b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }\nallow_caps = [\"all\"]", address))

			cfg := f.task(b, "if_present", b.task)
			b.start(cfg)
			e := b.event("")
			require.Regexp(t, `^Cold boot: .*`+f.reason+`.*; started in \d+\.\ds \(.*cold boot \d`, e.Message)
			require.NotContains(t, e.Message, "top secret")
			require.Equal(t, "cold", e.Annotations["start"])
			require.Regexp(t, f.reason, e.Annotations["reason"])
			status, err := b.InspectTask(cfg.ID)
			require.NoError(t, err)
			require.Regexp(t, f.reason, status.DriverAttributes["reason"])
			require.NoError(t, b.DestroyTask(cfg.ID, true))

			cfg = f.task(b, "always", b.failing)
			_, _, err = b.StartTask(cfg)
			require.Error(t, err)
			require.Regexp(t, f.reason, err.Error())
			require.Equal(t, !f.forGood, structs.IsRecoverable(err), "recoverable: %v", err)
			require.Empty(t, b.containers(cfg))
			clones, err := filepath.Glob(filepath.Join(b.cacheDir, "clones", "*"))
			require.NoError(t, err)
			require.Empty(t, clones)
		})
	}
}

// task is one that would fit, but for the reason.
func (f fallback) task(b *testbed, policy string, newTask func(string, ...func(*drivers.TaskConfig)) *drivers.TaskConfig) *drivers.TaskConfig {
	b.t.Helper()
	tc := parseTask(b.t, counterTask(policy)+"\ncap_drop = [\"net_raw\"]")
	cfg := newTask(fmt.Sprintf("image = %q", tc.Image), httpPort(28120), func(cfg *drivers.TaskConfig) {
		cfg.Env["APP"] = "shop"
		if f.edit != nil {
			f.edit(cfg)
		}
	})
	more := parseTask(b.t, "image = \"tiny:lab\"\n"+f.hcl)
	tc.Volumes, tc.WorkDir, tc.TTY, tc.CapAdd = more.Volumes, more.WorkDir, more.TTY, more.CapAdd
	tc.Snapshot.Ref, tc.Snapshot.Timeout = more.Snapshot.Ref, more.Snapshot.Timeout
	require.NoError(b.t, cfg.EncodeConcreteDriverConfig(tc))
	return cfg
}

// But for the reasons above, the task fits.
func TestFallbackTaskFits(t *testing.T) {
	dir := t.TempDir()
	b := newTestbed(t, fmt.Sprintf("snapshot { store = %q }\nallow_caps = [\"all\"]", dir))
	ref := publishCounter(t, b.engine, dir, "APP=shop")
	for _, hcl := range []string{"", fmt.Sprintf("snapshot {\n ref = %q\n timeout = \"50s\"\n}", ref)} {
		cfg := fallback{hcl: hcl}.task(b, "always", b.task)
		b.start(cfg)
		b.event("Restored from snapshot " + ref + " in ")
		require.NoError(t, b.DestroyTask(cfg.ID, true))
	}
}
