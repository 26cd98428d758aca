package e2e

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/store"
)

// TestSnapshotThatCanNotBeRestoredIsNotPublished: it would fail at every start.
func TestSnapshotThatCanNotBeRestoredIsNotPublished(t *testing.T) {
	l := newLab(t)
	name := l.network6() // where the engine gives each container another address
	spec := l.ruby(`require "socket"; $stdout.sync = true
own = Socket.ip_address_list.find { |a| a.ip_address.start_with?(ARGV[0]) }.ip_address
s = UDPSocket.new; s.connect(own, 8125); puts "up"; sleep`, subnet4)
	spec.Host.NetworkMode = container.NetworkMode(name)
	options := build.Options{Spec: spec, Ready: up, Checkpoint: criu.DefaultOptions(), Store: l.store}
	placeholders := 0
	options.OnEvent = func(e build.Event) {
		if e.Step == "rootfs" && e.Done && placeholders == 0 { // somebody gets the donor's address meanwhile
			placeholder := l.spec(tiny, "exec sleep 1000")
			placeholder.Host.NetworkMode = container.NetworkMode(name)
			l.run(placeholder, "never")
			placeholders++
		}
	}
	_, err := build.Snapshot(l.ctx, l.eng, options)
	require.ErrorIs(t, err, build.ErrNotRestorable)
	require.ErrorContains(t, err, "the donor's own IP address")
	require.ErrorContains(t, err, "--no-profile")
	_, err = l.store.ListRefs(l.ctx, "")
	require.ErrorIs(t, err, store.ErrNoStore, "nothing was uploaded")

	options.NoProfile = true
	_, err = build.Snapshot(l.ctx, l.eng, options)
	require.NoError(t, err)
}
