package ociruntime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/criu-docker/criu-docker/shared/criu"
)

func TestAttendanceIsForOneStart(t *testing.T) {
	c := newContainer(t)
	_, attended, err := c.attendance()
	require.NoError(t, err)
	require.False(t, attended)
	require.NoError(t, c.run.Attend(c.id, Attendance{Timeout: time.Second}))
	a, attended, err := c.attendance()
	require.NoError(t, err)
	require.True(t, attended)
	require.Equal(t, order{timeout: time.Second, lazy: true}, a.order(Request{Timeout: time.Hour, Lazy: true}))
	require.Equal(t, order{timeout: time.Hour, networkFirst: true}, Attendance{}.order(Request{Timeout: time.Hour, NetworkFirst: true}))
	_, attended, err = c.attendance()
	require.NoError(t, err)
	require.False(t, attended)
}

func TestLossIsRememberedUntilItIsSettled(t *testing.T) {
	run := RunDir(t.TempDir())
	one, another := digest.FromString("one"), digest.FromString("another")
	require.NoError(t, run.noteLoss(one.String(), "the disk is full"))
	reason, err := run.Loss(one)
	require.NoError(t, err)
	require.Equal(t, "the disk is full", reason)
	reason, err = run.Loss(another)
	require.NoError(t, err)
	require.Empty(t, reason)
	require.NoError(t, run.SettleLoss(one))
	require.NoError(t, run.SettleLoss(one), "twice is as good as once")
	reason, err = run.Loss(one)
	require.NoError(t, err)
	require.Empty(t, reason)
	require.Error(t, run.noteLoss("../../etc/passwd", ""), "a digest becomes a file's name")
}

// What a clone's restart comes to, by what the machine knows of it.
func TestOrderAgain(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	dir := t.TempDir()
	state := func(head string) *Source {
		file := filepath.Join(t.TempDir(), "filling")
		require.NoError(t, os.WriteFile(file, append([]byte(head), make([]byte, 64)...), 0o600))
		return &Source{State: file}
	}
	filling := func() *Source { return state(string(boot)) }
	for name, test := range map[string]struct {
		request Request
		last    Report
		lazy    bool
		reason  string
	}{
		"whole":                              {Request{Lazy: true}, Report{}, true, ""},
		"whole, eager":                       {Request{}, Report{}, false, ""},
		"still being filled":                 {Request{Lazy: true, Source: filling()}, Report{}, true, ""},
		"filled since":                       {Request{Lazy: true, Source: state(FillingWhole)}, Report{}, true, ""},
		"the filling did not get to the end": {Request{Lazy: true, Source: state(strings.Repeat("0", 36))}, Report{}, true, "the machine went down before all of its snapshot was fetched"},
		"the clone's directory is gone":      {Request{CheckpointDir: "/nowhere"}, Report{}, true, "what it would be restored from is gone"},
		"the filling's state is gone":        {Request{Lazy: true, Source: &Source{State: "/nowhere/filling"}}, Report{}, true, "what it would be restored from is gone"},
		"another host":                       {Request{Host: criu.Host{CRIU: "99.0"}}, Report{}, true, "99.0"},
		"lost, and whole":                    {Request{Lazy: true, ColdBoot: true}, Report{Lost: "it was killed"}, false, ""},
		"lost, and filled since":             {Request{Lazy: true, ColdBoot: true, Source: state(FillingWhole)}, Report{Lost: "it was killed"}, false, ""},
		"lost, and still being filled":       {Request{Lazy: true, ColdBoot: true, Source: filling()}, Report{Lost: "the disk is full"}, true, "the last time the disk is full"},
		"lost, and no cold boot":             {Request{Lazy: true, Source: filling()}, Report{Lost: "the disk is full"}, true, ""},
		"failed":                             {Request{Lazy: true, ColdBoot: true}, Report{Error: "no such file"}, true, "the last time it could not be restored: no such file"},
		"failed, and no cold boot":           {Request{Lazy: true}, Report{Error: "no such file"}, true, ""},
		"booted cold":                        {Request{Lazy: true, ColdBoot: true}, Report{Cold: "no such file"}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if test.request.CheckpointDir == "" {
				test.request.CheckpointDir = dir
			}
			o, err := orderAgain(test.request, test.last, func() (criu.Host, error) { return criu.Host{CRIU: "4.2"}, nil })
			if test.reason != "" {
				require.ErrorContains(t, err, test.reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.lazy, o.lazy)
			require.True(t, o.networkFirst)
			require.Equal(t, test.last.Lost != "" && !test.lazy, o.note != "", "what is unusual is said")
		})
	}
}

// forgotten is a container without a request, with a bundle and a runc that tells how it was called.
func forgotten(t *testing.T, annotations map[string]string) (c container, inv invocation) {
	t.Helper()
	c = newContainer(t)
	bundle := t.TempDir()
	spec, err := json.Marshal(specs.Spec{Annotations: annotations, Root: &specs.Root{}, Linux: &specs.Linux{}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(bundle, "config.json"), spec, 0o600))
	t.Setenv(runcEnv, filepath.Join(bundle, "no-runc")) // to become runc fails, and says so
	return c, invocation{bundle: bundle, args: []string{"create"}}
}

func TestForgottenClone(t *testing.T) {
	const becomesRunc = "no-runc: no such file"
	t.Run("may boot cold", func(t *testing.T) {
		c, inv := forgotten(t, Annotations("unix:///run/docker.sock", true))
		require.NoError(t, unix.Mkfifo(filepath.Join(inv.bundle, "log"), 0o600))
		log, err := os.OpenFile(filepath.Join(inv.bundle, "log"), os.O_RDONLY|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		defer log.Close()
		require.ErrorContains(t, c.createForgotten(inv, os.ErrNotExist), becomesRunc)
		report, err := c.run.ReadReport(c.id)
		require.NoError(t, err)
		require.Equal(t, Report{Cold: "what this machine knew of it is gone", Engine: "unix:///run/docker.sock"}, report)
		line := make([]byte, 4096)
		n, err := log.Read(line)
		require.NoError(t, err)
		require.Contains(t, string(line[:n]), `msg="cold boot: what this machine knew of it is gone"`)
		require.ErrorContains(t, c.startClone(invocation{}), becomesRunc, "it is runc's to start")
		ids, err := c.run.BootedCold("unix:///run/docker.sock")
		require.NoError(t, err)
		require.Equal(t, []string{c.id}, ids)
	})
	t.Run("must not boot cold", func(t *testing.T) {
		c, inv := forgotten(t, Annotations("unix:///run/docker.sock", false))
		err := c.createForgotten(inv, os.ErrNotExist)
		require.ErrorContains(t, err, "remove it and start another one")
		report, rerr := c.run.ReadReport(c.id)
		require.NoError(t, rerr)
		require.Equal(t, err.Error(), report.Error)
	})
	t.Run("is none of ours", func(t *testing.T) {
		c, inv := forgotten(t, map[string]string{"owner": "somebody"})
		require.ErrorContains(t, c.createForgotten(inv, os.ErrNotExist), becomesRunc)
		report, err := c.run.ReadReport(c.id)
		require.NoError(t, err)
		require.Empty(t, report)
	})
	t.Run("whose request is damaged, and tells nothing else", func(t *testing.T) {
		c, inv := forgotten(t, nil)
		require.ErrorIs(t, c.createForgotten(inv, ErrUnreadable), ErrUnreadable)
	})
}

func TestWarningsGoNowhereButIntoTheEnginesPipe(t *testing.T) {
	bundle := t.TempDir()
	warn(bundle, "id", "no pipe")
	file := filepath.Join(bundle, "log")
	require.NoFileExists(t, file)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	warn(bundle, "id", "no pipe")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, content)
}
