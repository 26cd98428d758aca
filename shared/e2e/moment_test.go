package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// TestFreezeAtAnotherMoment: what can't be frozen because of what the app is doing just then is frozen a little later.
func TestFreezeAtAnotherMoment(t *testing.T) {
	l := newLab(t)
	for name, tc := range map[string]struct {
		script string
		ready  build.Probe
		over   string // is run in the donor when the first attempt has failed, and ends what it failed of
		says   string
	}{
		"somebody connects": {
			`require "socket"; $stdout.sync = true; s = UNIXServer.new("/tmp/s"); UNIXSocket.new("/tmp/s").close; puts "up"
sleep 0.01 until File.exist?("/tmp/over"); s.accept.close; sleep`,
			up, "touch /tmp/over", "a client was just connecting to a unix socket of the app",
		},
		// clone(2) with CLONE_VFORK: the parent waits until the child, which waits at the FIFO, has executed its program.
		"a process begins": {
			`File.mkfifo("/tmp/f"); if syscall(56, 0x4011, 0, 0, 0, 0) == 0 then File.open("/tmp/f"); exec "true" end; sleep`,
			build.Probe{Type: build.ProbeExec, Command: []string{"grep", "-q", "^56 0x4011 ", "/proc/1/syscall"}, Timeout: time.Minute},
			"echo >/tmp/f", "process 1 (ruby) starts processes all the time",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var again, end string
			spec := l.ruby(tc.script)
			_, err := build.Snapshot(l.ctx, l.eng, build.Options{
				Spec: spec, Ready: tc.ready, Checkpoint: criu.DefaultOptions(), Store: l.store, NoProfile: true, OnEvent: func(e build.Event) {
					switch {
					case e.Step != "freeze" || e.Message == "":
					case e.Done:
						end = e.Message
					default:
						if again == "" {
							require.NoError(t, l.eng.Exec(l.ctx, l.containers()[0].ID, []string{"sh", "-c", tc.over}))
						}
						again = e.Message
					}
				},
			})
			require.NoError(t, err)
			require.Contains(t, again, "again, since "+tc.says)
			require.Contains(t, end, "frozen at attempt ")
			require.Contains(t, end, tc.says)
			l.run(spec, restore.PolicyAlways)
		})
	}
}

// TestFreezeWhileClientsWait: a client that has connected and was not accepted yet doesn't keep the app from being frozen. The
// connection ends as those do that the app has accepted.
func TestFreezeWhileClientsWait(t *testing.T) {
	l := newLab(t)
	spec := l.ruby(`require "socket"; $stdout.sync = true; s = TCPServer.new(80); puts "up"
sleep 0.01 until File.exist?("/go"); loop { c = s.accept; c.gets; c.write "HTTP/1.0 200 OK\r\n\r\nhere"; c.close }`)
	freeze := func(spec engine.Spec, options criu.Options) error {
		_, err := build.Snapshot(l.ctx, l.eng, build.Options{Spec: spec, Ready: up, Checkpoint: options, Store: l.store, OnEvent: func(e build.Event) {
			if e.Step == "boot" && e.Done {
				client, err := net.Dial("tcp", net.JoinHostPort(l.ip(l.containers()[0].ID), "80"))
				require.NoError(l, err)
				l.Cleanup(func() { client.Close() })
			}
		}})
		return err
	}
	options := criu.DefaultOptions()
	options.TCP = criu.TCPEstablished
	err := freeze(spec, options)
	require.ErrorContains(t, err, "8 times", "a connection that is to go on can't be left out")
	require.ErrorContains(t, err, "a client was just connecting to the app")

	require.NoError(t, freeze(spec, criu.DefaultOptions()))
	clone := l.run(spec, restore.PolicyAlways)
	require.NoError(t, l.eng.Exec(l.ctx, clone.ContainerID, []string{"touch", "/go"}))
	require.Equal(t, "here", strings.TrimSpace(l.mustGet("http://"+l.ip(clone.ContainerID)+"/")))
}
