package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
	"github.com/criu-docker/criu-docker/shared/snapshot"
	"github.com/criu-docker/criu-docker/shared/store"
)

// The app has some megabytes that neither compress nor are zero, so that there is time to kill the process that writes them.
const heavy = `x=$(head -c 6000000 /dev/urandom | base64)` + signalled

// randomPoints returns a source of random numbers; the seed of a failed run can be given again in E2E_SEED.
func randomPoints(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("E2E_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// rounds counts to n, or until enough time has passed: on a busy machine a round takes ten times as long.
func rounds(n int) iter.Seq[int] {
	const enough = 30 * time.Second
	return func(yield func(int) bool) {
		begun := time.Now()
		for i := range n {
			if time.Since(begun) > enough || !yield(i) {
				return
			}
		}
	}
}

// builderEnv makes this program the builder that a test kills.
const builderEnv = "E2E_BUILDER"

func TestMain(m *testing.M) {
	if job := os.Getenv(builderEnv); job != "" {
		if err := builder(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// buildJob says what the builder builds.
type buildJob struct{ Label, Dir string }

func (j buildJob) options(s store.Store) build.Options {
	l := &lab{label: j.Label}
	return build.Options{
		Spec: l.spec(tiny, heavy), Ready: counted, Checkpoint: criu.DefaultOptions(), Store: s, Dir: filepath.Join(j.Dir, "build"),
	}
}

// builder makes one snapshot and tells every step that it begins.
func builder(encoded string) error {
	var job buildJob
	if err := json.Unmarshal([]byte(encoded), &job); err != nil {
		return err
	}
	ctx := context.Background()
	eng, err := engine.Connect(ctx, "")
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, job.Dir+"/store")
	if err != nil {
		return err
	}
	options := job.options(s)
	options.OnEvent = func(e build.Event) {
		if !e.Done && e.Total == 0 {
			fmt.Println(e.Step)
		}
	}
	_, err = build.Snapshot(ctx, eng, options)
	return err
}

func TestBuilderKilledAtRandomPoints(t *testing.T) {
	l := newLab(t)
	random := randomPoints(t)
	job := buildJob{l.label, l.dir}
	elapsed := map[string]time.Duration{}
	options := job.options(l.store)
	options.OnEvent = func(e build.Event) { elapsed[e.Step] = e.Elapsed }
	whole, err := build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
	l.wholeOrAbsent(whole.Ref)

	for range rounds(3) {
		for _, step := range slices.Sorted(maps.Keys(elapsed)) {
			l.killBuilder(job, step, time.Duration(random.Int64N(int64(elapsed[step])+1)))
			l.wholeOrAbsent(whole.Ref)
		}
	}
	// Each build sweeps up what the one before has left; this one is not killed.
	_, err = build.Snapshot(l.ctx, l.eng, job.options(l.store))
	require.NoError(t, err)
	l.wholeOrAbsent(whole.Ref)
	require.Greater(t, len(l.seen()), 2)
	// The engine may have been creating a donor when its builder was killed.
	l.eventually(func() bool { return build.Sweep(l.ctx, l.eng, options.Dir) == nil && len(l.containers()) == 0 }, "every donor is gone")
	left, err := filepath.Glob(options.Dir + "/build-*")
	require.NoError(t, err)
	require.Empty(t, left)
	l.nothingIsLeft()
}

// killBuilder starts a builder and kills it some time after it has begun a step.
func (l *lab) killBuilder(job buildJob, step string, after time.Duration) {
	l.Helper()
	encoded, err := json.Marshal(job)
	require.NoError(l, err)
	self, err := os.Executable()
	require.NoError(l, err)
	cmd := exec.CommandContext(l.ctx, self)
	cmd.Env = append(os.Environ(), builderEnv+"="+string(encoded))
	cmd.Stderr = os.Stderr
	steps, err := cmd.StdoutPipe()
	require.NoError(l, err)
	require.NoError(l, cmd.Start())
	for lines := bufio.NewScanner(steps); lines.Scan() && lines.Text() != step; {
	}
	time.Sleep(after) // the random point
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	l.Logf("killed %s after the beginning of %s: %s", after, step, cmd.ProcessState)
}

// wholeOrAbsent checks that a snapshot is not half there, and withdraws it.
func (l *lab) wholeOrAbsent(ref snapshot.Ref) {
	l.Helper()
	entry, err := l.store.GetRef(l.ctx, ref.String())
	if errors.Is(err, store.ErrNotFound) {
		return
	}
	require.NoError(l, err)
	require.NoError(l, snapshot.Verify(l.ctx, l.store, entry.Manifest))
	require.NoError(l, l.store.DeleteRef(l.ctx, ref.String(), entry.Generation))
}

// If any of the processes that bring a clone to life is killed, the restore ends with it: the container boots cold or is
// gone, and the reason is reported. A clone that runs needs none of them any more, but for its page server, until that is done.
func TestRestoreKilledAtRandomPoints(t *testing.T) {
	l := newLab(t)
	random := randomPoints(t)
	l.build(l.spec(tiny, heavy), counted)
	undisturbed := l.run(l.spec(tiny, heavy), restore.PolicyAlways)
	var life time.Duration
	for _, step := range undisturbed.Report.Steps {
		life += step.Elapsed
	}
	l.filled(undisturbed.ContainerID)
	l.removeContainer(undisturbed)

	n := 0
	for range rounds(6) {
		for _, victim := range slices.Sorted(maps.Keys(victims)) {
			policy := []restore.Policy{restore.PolicyIfPresent, restore.PolicyAlways}[n%2]
			l.memory = []restore.Memory{restore.MemoryLazy, restore.MemoryEager}[n/2%2]
			n++
			after := time.Duration(random.Int64N(int64(life + life/5)))
			killed := l.killDuringNextRestore(victims[victim], after)
			r, err := l.tryRun(l.spec(tiny, heavy), policy)
			t.Logf("%s, %s, %s killed (%t) after %s: %s", policy, l.memory, victim, <-killed, after, outcome(r, err))
			if err != nil {
				require.Equal(t, restore.PolicyAlways, policy, err)
			} else {
				l.worksOrIsLost(r)
				l.removeContainer(r)
			}
			l.nothingIsLeft()
		}
	}
}

// With runc, a container ends with its shim, and can be started again. So does a clone, and its next start is hot.
func TestShimOfACloneKilled(t *testing.T) {
	l := newLab(t)
	l.build(l.spec(tiny, signalled), counted)
	r := l.run(l.spec(tiny, signalled), restore.PolicyAlways)
	shim := process(func(_ string, args []string) bool {
		return strings.Contains(args[0], "containerd-shim") && slices.Contains(args, r.ContainerID)
	})
	require.Positive(t, shim)
	require.NoError(t, unix.Kill(shim, unix.SIGKILL))
	l.eventually(func() bool { return !l.state(r.ContainerID).Running }, "the engine sees the clone end")
	require.Equal(t, 137, l.state(r.ContainerID).ExitCode)
	require.NoError(t, l.eng.Start(l.ctx, r.ContainerID))
	l.works(r)
}

func outcome(r *restore.Result, err error) string {
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(r.Start) + " " + r.Reason)
}

// works checks that the app runs, and that it began where the result says.
func (l *lab) works(r *restore.Result) {
	l.Helper()
	first := l.firstCount(r.ContainerID)
	if r.Start == restore.Hot {
		require.Greater(l, first, 1)
	} else {
		require.NotEmpty(l, r.Reason)
		require.Equal(l, 1, first)
	}
	l.eventually(func() bool { return l.lastCount(r.ContainerID) > first }, "the app counts on")
	require.Equal(l, "here", l.sh(r.ContainerID, "echo here"))
}

// worksOrIsLost allows for a clone whose page server was killed when it ran already.
func (l *lab) worksOrIsLost(r *restore.Result) {
	l.Helper()
	if r.Start == restore.Hot && !l.settled(r.ContainerID) {
		require.Contains(l, l.report(r.ContainerID).Lost, "page server")
		l.eventually(func() bool { return !l.state(r.ContainerID).Running }, "a lost clone is killed")
		return
	}
	l.works(r)
}

// settled waits until a clone has all of its memory; false if it is lost.
func (l *lab) settled(id string) bool {
	l.Helper()
	l.filled(id)
	return l.report(id).Lost == ""
}

func (l *lab) report(id string) ociruntime.Report {
	l.Helper()
	report, err := runDir.ReadReport(id)
	require.NoError(l, err)
	return report
}

func (l *lab) removeContainer(r *restore.Result) {
	l.Helper()
	require.NoError(l, restore.Remove(l.ctx, l.eng, l.cache, r.ContainerID))
}

// victims find the processes that take part in the restore of a container; -1 if there is none.
var victims = map[string]func(id string) (pid int){
	"supervisor": func(id string) int {
		return process(func(_ string, args []string) bool {
			return slices.Contains(args, "supervise") && slices.Contains(args, id)
		})
	},
	"pages": func(id string) int {
		return process(func(_ string, args []string) bool {
			return filepath.Base(args[0]) == ociruntime.PagesName && slices.Contains(args, id)
		})
	},
	"runc": runcRestore,
	"criu": func(id string) int {
		parent := fmt.Sprintf("PPid:\t%d\n", runcRestore(id))
		return process(func(dir string, args []string) bool {
			status, _ := os.ReadFile(dir + "/status")
			return strings.HasPrefix(args[0], "criu") && strings.Contains(string(status), parent)
		})
	},
}

func runcRestore(id string) int {
	return process(func(_ string, args []string) bool {
		return filepath.Base(args[0]) == "runc" && slices.Contains(args, "restore") && slices.Contains(args, id)
	})
}

// process returns the pid of the process that is asked for.
func process(wanted func(dir string, args []string) bool) int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		if wanted(dir, strings.Split(string(cmdline), "\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return -1
}

// killDuringNextRestore kills one process of the next restore that the test starts, some time after its supervisor has
// appeared. The channel reports whether there was one.
func (l *lab) killDuringNextRestore(victim func(id string) int, after time.Duration) <-chan bool {
	known := len(l.seen())
	killed := make(chan bool, 1)
	go func() {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			ids := l.seen()
			if len(ids) == known || victims["supervisor"](ids[known]) < 0 {
				continue
			}
			time.Sleep(after) // the random point
			pid := victim(ids[known])
			killed <- pid > 0 && unix.Kill(pid, unix.SIGKILL) == nil
			return
		}
		killed <- false
	}()
	return killed
}
