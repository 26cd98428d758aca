package main

import (
	"context"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPSS(t *testing.T) {
	n, err := pss("55d0c0000000-7ffd5a000000 ---p 00000000 00:00 0    [rollup]\nRss:     9000 kB\nPss:     1234 kB\nPss_Anon:  34 kB\n")
	require.NoError(t, err)
	assert.Equal(t, int64(1234<<10), n)
	_, err = pss("Rss:     9000 kB\n")
	assert.ErrorContains(t, err, "Pss:")
}

// child runs until its input ends. Its arguments are those of a program that works for a container.
func child(t *testing.T, args ...string) (pid int, end func()) {
	t.Helper()
	shell, err := exec.LookPath("sh")
	require.NoError(t, err)
	cmd := exec.Command(shell)
	cmd.Args = append([]string{args[0], "-c", "read line; :"}, args[1:]...)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd.Process.Pid, func() {
		require.NoError(t, in.Close())
		_ = cmd.Wait() // reading nothing is no success
	}
}

func TestMemoryOfContainersIsThatOfAllThatWorksForThem(t *testing.T) {
	const id = "0123456789abcdef-of-this-test"
	pid, end := child(t, "containerd-shim", "-id", id)
	list, err := processesOf([]string{"another", id})
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, pid, list[0].pid)
	n, err := proportional([]string{id})
	require.NoError(t, err)
	assert.Positive(t, n)
	require.NoError(t, awaitFilled(t.Context(), []string{id}), "a shim stays as long as the container")
	end()
	n, err = proportional([]string{id})
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestFilledWhenTheRuntimeHasEnded(t *testing.T) {
	const id = "fedcba9876543210-of-this-test"
	_, end := child(t, "/usr/local/bin/criu-docker-runc", "supervise", id)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- awaitFilled(ctx, []string{id}) }()
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "supervise")
	require.NoError(t, awaitFilled(t.Context(), []string{"another"}))

	go func() { done <- awaitFilled(t.Context(), []string{id}) }()
	end()
	require.NoError(t, <-done)
}
