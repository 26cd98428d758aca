package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/checkpoint"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// The server numbers its connections and answers each line with that number.
const server = `
require "socket"; $stdout.sync = true
n = 0
Socket.tcp_server_loop(7000) { |c, _|
  k = n += 1
  Thread.new { puts "open #{k}"; while line = c.gets; c.puts "connection #{k}: #{line}"; end; puts "end #{k}" }
}`

// The client counts to the server over one connection, for as long as that lives.
const client = `
require "socket"; $stdout.sync = true
n = 0
begin
  s = TCPSocket.new(ARGV[0], 7000)
  loop { n += 1; s.puts n; puts s.gets || raise(EOFError); sleep 0.05 }
rescue SystemCallError, EOFError
  puts "closed"; sleep 0.1; retry
end`

var connected = build.Probe{Type: build.ProbeLog, Pattern: `^connection 1: 5$`}

func (l *lab) ruby(script string, args ...string) engine.Spec {
	spec := l.spec(redmine, "")
	spec.Config.Entrypoint = append([]string{"ruby", "-e", script}, args...)
	return spec
}

func TestCloneReconnects(t *testing.T) {
	l := newLab(t)
	srv := l.run(l.ruby(server), restore.PolicyNever)
	spec := func() engine.Spec { return l.ruby(client, l.ip(srv.ContainerID)) }
	built := l.build(spec(), connected)
	require.NotEmpty(t, built.Config.Sockets)

	// The clone that the profile was made of may have had time for a connection of its own, which ended with it.
	connection := regexp.MustCompile(`(?m)^connection ([2-9]|\d{2,}): 9$`)
	var numbers []string
	for range 2 {
		r := l.run(spec(), restore.PolicyAlways)
		var on []string
		l.eventually(func() bool { on = connection.FindStringSubmatch(l.logs(r.ContainerID)); return on != nil }, "the clone counts on over a connection of its own")
		numbers = append(numbers, on[1])
		_, after, closed := strings.Cut(l.logs(r.ContainerID), "closed\n")
		require.True(t, closed, "the app was told")
		require.NotContains(t, after, "connection 1: ", "the donor's connection is not the clone's")
	}
	// The server has lost nothing but the donor, which is gone.
	require.NotRegexp(t, `(?m)^end (`+strings.Join(numbers, "|")+`)\b`, l.logs(srv.ContainerID))
	require.True(t, l.state(srv.ContainerID).Running)
}

// A donor that is left running, as an orchestrator would for a debug clone, keeps its connection.
func TestDonorKeepsItsConnection(t *testing.T) {
	l := newLab(t)
	srv := l.run(l.ruby(server), restore.PolicyNever)
	spec := l.ruby(client, l.ip(srv.ContainerID))
	checkpointDir := filepath.Join(l.dir, "checkpoint")
	require.NoError(t, os.Mkdir(checkpointDir, 0o700))
	start := func(kind ociruntime.Kind) string {
		id, err := l.eng.Create(l.ctx, spec, engine.RuntimeName)
		require.NoError(t, err)
		require.NoError(t, ociruntime.RunDir(ociruntime.DefaultRunDir).WriteRequest(id, ociruntime.Request{
			Kind: kind, Engine: l.eng.Client.DaemonHost(), CheckpointDir: checkpointDir, Options: criu.DefaultOptions(),
		}))
		require.NoError(t, runDir.Attend(id, ociruntime.Attendance{}))
		require.NoError(t, l.eng.Start(l.ctx, id))
		return id
	}
	donor := start(ociruntime.KindDonor)
	l.eventually(func() bool { return l.lastOn(donor, 1) > 5 }, "the donor counts")
	require.NoError(t, l.eng.Client.CheckpointCreate(l.ctx, donor, checkpoint.CreateOptions{CheckpointID: "live", Exit: false}))

	clone := start(ociruntime.KindClone)
	l.eventually(func() bool { return l.lastOn(clone, 2) > 5 }, "the clone counts on over a connection of its own")
	require.Contains(t, l.logs(clone), "closed")
	now := l.lastOn(donor, 1)
	l.eventually(func() bool { return l.lastOn(donor, 1) > now }, "the donor counts on over its own")
	require.NotContains(t, l.logs(donor), "closed")
	require.NotContains(t, l.logs(srv.ContainerID), "end 1")
}

func TestCloneTakesTheConnectionOver(t *testing.T) {
	l := newLab(t)
	name, subnet := l.network()
	on := func(s engine.Spec, ip string) engine.Spec {
		s.Host.NetworkMode = container.NetworkMode(name)
		s.Network = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			name: {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: subnet + ip}},
		}}
		return s
	}
	srv := l.run(on(l.ruby(server), "2"), restore.PolicyNever)
	options := criu.DefaultOptions()
	options.TCP = criu.TCPEstablished
	_, err := l.tryBuild(on(l.ruby(client, subnet+"2"), "3"), connected, options)
	require.NoError(t, err)

	_, err = l.tryRun(on(l.ruby(client, subnet+"2"), "4"), restore.PolicyAlways)
	require.ErrorContains(t, err, "the donor's own IP address")

	r := l.run(on(l.ruby(client, subnet+"2"), "3"), restore.PolicyAlways)
	l.eventually(func() bool { return l.lastOn(r.ContainerID, 1) > 10 }, "the clone counts on over the donor's connection")
	require.NotContains(t, l.logs(r.ContainerID), "closed")
	require.Equal(t, "open 1", l.logs(srv.ContainerID))
}

// lastOn is the last number that a client got back over a connection, 0 if none.
func (l *lab) lastOn(id string, connection int) int {
	l.Helper()
	answers := regexp.MustCompile(`(?m)^connection `+strconv.Itoa(connection)+`: (\d+)$`).FindAllStringSubmatch(l.logs(id), -1)
	if len(answers) == 0 {
		return 0
	}
	n, err := strconv.Atoi(answers[len(answers)-1][1])
	require.NoError(l, err)
	return n
}

func TestFileLocks(t *testing.T) {
	l := newLab(t)
	spec := func() engine.Spec {
		return l.ruby(`$stdout.sync = true; f = File.open("/lock", "w"); f.flock(File::LOCK_EX); puts "up"; sleep`)
	}
	without := criu.DefaultOptions()
	without.FileLocks = false
	_, err := l.tryBuild(spec(), up, without)
	var failure *criu.Failure
	require.ErrorAs(t, err, &failure)
	require.Contains(t, failure.Meaning, "file locks")
	require.Contains(t, failure.Remedy, "file_locks = true")

	l.build(spec(), up)
	for range 2 {
		r := l.run(spec(), restore.PolicyAlways)
		try := `print File.open("/lock").flock(File::LOCK_SH | File::LOCK_NB).inspect; exit 7`
		err := l.eng.Exec(l.ctx, r.ContainerID, []string{"ruby", "-e", try})
		require.ErrorContains(t, err, "exit code 7: false", "somebody holds the lock")
		require.NoError(t, l.eng.Client.ContainerKill(l.ctx, r.ContainerID, "KILL"))
	}
}
