package ociruntime

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// restoration is a supervisor at work, with a shell script in the place of runc and a process in that of the first task.
type restoration struct {
	container
	checkpoint string // directory
	task       *exec.Cmd
	ready      *os.File
	done       chan error // what the supervisor says at its end
}

// supervised starts a supervisor. The script sees its work directory as $work.
func supervised(t *testing.T, timeout time.Duration, script string) *restoration {
	t.Helper()
	return supervisedAs(t, order{timeout: timeout}, script)
}

func supervisedAs(t *testing.T, o order, script string) *restoration {
	t.Helper()
	r := &restoration{container: newContainer(t), done: make(chan error, 1)}
	dir := t.TempDir()
	r.checkpoint = filepath.Join(dir, "checkpoint")
	require.NoError(t, os.Mkdir(r.checkpoint, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"root": {"path": "checkpoint"}, "linux": {}}`), 0o600))
	require.NoError(t, r.run.WriteRequest(r.id, Request{Kind: KindClone, CheckpointDir: r.checkpoint}))
	require.NoError(t, r.writeReport(Report{}))
	runc := filepath.Join(t.TempDir(), "runc")
	require.NoError(t, os.WriteFile(runc, fmt.Appendf(nil, "#!/bin/sh\nwork=%s\n%s\n", r.path(workName), script), 0o700))
	t.Setenv(runcEnv, runc)
	r.task = exec.Command("sleep", "1000")
	require.NoError(t, r.task.Start())
	t.Cleanup(func() {
		_ = r.task.Process.Kill()
		_ = r.task.Wait()
	})

	var w *os.File
	var err error
	r.ready, w, err = os.Pipe()
	require.NoError(t, err)
	go func() {
		r.done <- r.supervise(invocation{bundle: dir, order: o}, w)
		w.Close()
	}()
	return r
}

// conversation is what runc and CRIU say to each other, through the supervisor.
type conversation struct{ runc, criu int }

// criu lets runc start a CRIU, whose pid is that of the first task here, and give it the order to restore.
func (r *restoration) criu(t *testing.T) conversation {
	t.Helper()
	r.listens(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	kind, theirs := rpc.CriuReqType_RESTORE, int32(-1)
	order, err := (&rpc.CriuReq{Type: &kind, Opts: &rpc.CriuOpts{ImagesDirFd: &theirs}}).MarshalVT()
	require.NoError(t, err)
	require.NoError(t, unix.Send(fds[0], order, 0))
	a, err := ask(r.path(socketName), message{Command: "criu", Pid: r.task.Process.Pid}, fds[1])
	require.NoError(t, err)
	require.NoError(t, unix.Close(fds[1]))
	c := conversation{runc: fds[0], criu: a.socket}
	t.Cleanup(func() {
		_ = unix.Close(c.runc)
		_ = unix.Close(c.criu)
	})
	b, _, err := receive(c.criu)
	require.NoError(t, err)
	var req rpc.CriuReq
	require.NoError(t, req.UnmarshalVT(b))
	images, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", req.Opts.GetImagesDirFd()))
	require.NoError(t, err)
	require.Equal(t, imagesDir(r.checkpoint), images, "of the supervisor, which has the connection")
	return c
}

// notify lets CRIU tell of its progress; the channel has what comes of it when CRIU may go on.
func (c conversation) notify(t *testing.T, script string, pid int) <-chan error {
	t.Helper()
	kind, ok, number := rpc.CriuReqType_NOTIFY, true, int32(pid)
	b, err := (&rpc.CriuResp{Type: &kind, Success: &ok, Notify: &rpc.CriuNotify{Script: &script, Pid: &number}}).MarshalVT()
	require.NoError(t, err)
	require.NoError(t, unix.Send(c.criu, b, 0))
	heeded, err := (&rpc.CriuReq{Type: &kind, NotifySuccess: &ok}).MarshalVT()
	require.NoError(t, err)
	goOn := make(chan error, 1)
	go func() {
		_, _, err := receive(c.runc)
		if err == nil {
			err = unix.Send(c.runc, heeded, 0)
		}
		if err == nil {
			_, _, err = receive(c.criu)
		}
		goOn <- err
	}()
	return goOn
}

// restored is a CRIU that has restored the clone; the channel has what comes of it when the clone may run.
func (r *restoration) restored(t *testing.T) <-chan error {
	t.Helper()
	c := r.criu(t)
	require.NoError(t, <-c.notify(t, mountsNext, r.task.Process.Pid))
	require.NoError(t, <-c.notify(t, filesNext, r.task.Process.Pid))
	return c.notify(t, resumeNext, r.task.Process.Pid)
}

func (r *restoration) listens(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { _, err := os.Stat(r.path(socketName)); return err == nil }, time.Minute, time.Millisecond)
}

const untilReleased = `while [ ! -e $work/go ]; do sleep 0.01; done`

func TestStartReleasesTheClone(t *testing.T) {
	r := supervised(t, time.Minute, untilReleased)
	r.listens(t)
	require.ErrorContains(t, r.ask(message{Command: "start"}), "not created yet")
	released := r.restored(t)
	var ready readyMessage
	require.NoError(t, json.NewDecoder(r.ready).Decode(&ready))
	require.Equal(t, readyMessage{Pid: r.task.Process.Pid}, ready)
	select {
	case err := <-released:
		require.Fail(t, "released before start", "%v", err)
	default:
	}
	require.ErrorContains(t, r.ask(message{Command: "dance"}), `unknown command "dance"`)

	started := make(chan error, 1)
	go func() { started <- r.startClone(invocation{}) }()
	require.NoError(t, <-released)
	require.NoError(t, os.WriteFile(filepath.Join(r.path(workName), "go"), nil, 0o600)) // memory is restored
	require.NoError(t, <-started)
	require.NoError(t, <-r.done)
	report, err := r.run.ReadReport(r.id)
	require.NoError(t, err)
	var steps []string
	for i, s := range report.Steps {
		steps = append(steps, s.Name)
		if i > 0 {
			before := report.Steps[i-1]
			require.WithinDuration(t, before.Start.Add(before.Elapsed), s.Start, time.Millisecond, "no time is unaccounted for")
		}
	}
	require.ElementsMatch(t, []string{"supervisor", StepFork, "restore", "network", "resume"}, steps, "CRIU and the engine go on side by side")
	require.ErrorContains(t, r.startClone(invocation{}), "not waiting to be started")
}

func TestNetworkFirst(t *testing.T) {
	t.Run("if asked for", func(t *testing.T) {
		holdsBeforeFiles(t, supervisedAs(t, order{timeout: time.Minute, networkFirst: true}, untilReleased))
	})
	t.Run("if connections can't be refused", func(t *testing.T) {
		r := supervised(t, time.Minute, untilReleased)
		require.NoError(t, os.MkdirAll(filepath.Dir(r.netnsFile()), 0o700))
		require.NoError(t, os.WriteFile(r.netnsFile(), nil, 0o600)) // no namespace: the kernel takes no program for it
		holdsBeforeFiles(t, r)
	})
}

func holdsBeforeFiles(t *testing.T, r *restoration) {
	t.Helper()
	c := r.criu(t)
	require.NoError(t, <-c.notify(t, mountsNext, r.task.Process.Pid))
	held := c.notify(t, filesNext, r.task.Process.Pid)
	require.NoError(t, json.NewDecoder(r.ready).Decode(&readyMessage{}))
	select {
	case err := <-held:
		require.Fail(t, "files and sockets before start", "%v", err)
	default:
	}
	started := make(chan error, 1)
	go func() { started <- r.startClone(invocation{}) }()
	require.NoError(t, <-held)
	require.NoError(t, <-c.notify(t, resumeNext, r.task.Process.Pid))
	require.NoError(t, os.WriteFile(filepath.Join(r.path(workName), "go"), nil, 0o600))
	require.NoError(t, <-started)
	require.NoError(t, <-r.done)
}

func TestAbortEndsTheClone(t *testing.T) {
	r := supervised(t, time.Minute, untilReleased)
	released := r.restored(t)
	require.NoError(t, json.NewDecoder(r.ready).Decode(&readyMessage{}))
	go func() { // as runc does when the first task is gone
		_ = r.task.Wait()
		_ = os.WriteFile(filepath.Join(r.path(workName), "go"), nil, 0o600)
	}()
	require.NoError(t, r.kill(invocation{}))
	require.Error(t, <-released, "CRIU is not answered")
	require.NoError(t, <-r.done)
}

func TestAbortEndsARestoreUnderWay(t *testing.T) {
	r := supervised(t, time.Minute, `exec sleep 1000`)
	released := r.restored(t)
	require.NoError(t, json.NewDecoder(r.ready).Decode(&readyMessage{}))
	started := make(chan error, 1)
	go func() { started <- r.startClone(invocation{}) }()
	require.NoError(t, <-released)
	require.NoError(t, r.kill(invocation{}))
	require.ErrorContains(t, <-started, "killed while it was restored")
	require.Error(t, r.task.Wait(), "the first task is killed")
	require.NoError(t, <-r.done)
}

func TestRestoreThatFailsAtOnce(t *testing.T) {
	r := supervised(t, time.Minute, `echo "runc says no" >$work/runc.log; exit 1`)
	require.ErrorContains(t, <-r.done, "runc restore: exit status 1: runc says no")
}

func TestRestoreThatFailsAfterTheRelease(t *testing.T) {
	r := supervised(t, time.Minute, untilReleased+`
echo "(00.1) Error (criu/files-reg.c:2221): File www/x has bad size 3 (expect 5)" >$work/restore.log; exit 1`)
	released := r.restored(t)
	require.NoError(t, json.NewDecoder(r.ready).Decode(&readyMessage{}))
	started := make(chan error, 1)
	go func() { started <- r.startClone(invocation{}) }()
	require.NoError(t, <-released)
	require.NoError(t, os.WriteFile(filepath.Join(r.path(workName), "go"), nil, 0o600))
	require.ErrorContains(t, <-started, "File www/x has bad size 3")
	require.Error(t, r.task.Wait(), "the first task is killed")
	require.NoError(t, <-r.done)
}

func TestRestoreThatDoesNotBegin(t *testing.T) {
	// The shell begins within this time on a busy machine too.
	r := supervised(t, time.Second, `echo $$ >$work/pid; exec sleep 1000`)
	require.ErrorContains(t, <-r.done, "did not begin within 1s")
	pid, err := os.ReadFile(filepath.Join(r.path(workName), "pid"))
	require.NoError(t, err)
	require.NoDirExists(t, "/proc/"+string(pid[:len(pid)-1]), "runc is gone")
}

func TestCreatedCloneWhoseRestoreEnds(t *testing.T) {
	r := supervised(t, time.Minute, untilReleased+`
echo "(00.1) Error (criu/files-reg.c:2221): File www/x has bad size 3 (expect 5)" >$work/restore.log; exit 1`)
	r.restored(t)
	require.NoError(t, json.NewDecoder(r.ready).Decode(&readyMessage{}))
	require.NoError(t, os.WriteFile(filepath.Join(r.path(workName), "go"), nil, 0o600))
	require.NoError(t, <-r.done)
	require.ErrorContains(t, r.startClone(invocation{}), "File www/x has bad size 3", "start tells why")
}

func TestCreatedCloneWhoseRuncIsKilled(t *testing.T) {
	r := supervised(t, time.Minute, `kill -9 $$`)
	require.ErrorContains(t, <-r.done, "runc restore: signal: killed")

	r = supervised(t, time.Minute, untilReleased+`; kill -9 $$`)
	r.restored(t)
	require.NoError(t, json.NewDecoder(r.ready).Decode(&readyMessage{}))
	require.NoError(t, os.WriteFile(filepath.Join(r.path(workName), "go"), nil, 0o600))
	require.NoError(t, <-r.done)
	require.ErrorContains(t, r.startClone(invocation{}), "runc restore: signal: killed", "start tells why")
}

// A signal that comes when start has just been answered is runc's to deliver. It must not wait for the page server, which may
// have minutes to go.
func TestCallAfterStartIsNotHeldUp(t *testing.T) {
	s := &supervision{container: newContainer(t), calls: make(chan call), answered: make(chan struct{})}
	require.NoError(t, s.listen())
	defer s.listener.Close()
	aborted := make(chan bool, 1)
	go func() {
		is, err := s.abort()
		aborted <- is && err == nil
	}()
	close(s.answered) // before the call or after it: nobody takes it
	select {
	case is := <-aborted:
		require.False(t, is, "there is nothing to abort any more")
	case <-time.After(time.Minute):
		require.Fail(t, "the signal waits")
	}
}
