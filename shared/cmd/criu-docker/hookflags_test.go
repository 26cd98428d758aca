package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/hook"
)

func TestHookFlags(t *testing.T) {
	f := hookFlags{beforeFreeze: []string{"exec:sync"}, afterRestore: []string{"signal:USR1", "http://:80/up"}, timeout: time.Second}
	hooks, err := f.hooks()
	require.NoError(t, err)
	require.Equal(t, hook.Hooks{
		BeforeFreeze: []hook.Hook{{Type: hook.Exec, Command: []string{"/bin/sh", "-c", "sync"}, Timeout: time.Second}},
		AfterRestore: []hook.Hook{{Type: hook.Signal, Signal: "USR1", Timeout: time.Second}, {Type: hook.HTTP, Port: 80, Path: "/up", Timeout: time.Second}},
	}, hooks)

	own, err := (&hookFlags{timeout: time.Second}).override()
	require.NoError(t, err)
	require.Nil(t, own, "the snapshot's are run")
	none, err := (&hookFlags{afterRestore: []string{"none"}, timeout: time.Second}).override()
	require.NoError(t, err)
	require.Equal(t, []hook.Hook{}, none)

	_, err = (&hookFlags{afterRestore: []string{"mail:root"}, timeout: time.Second}).override()
	require.ErrorContains(t, err, `--after-restore: "mail:root": want signal:NAME`)
	_, err = (&hookFlags{beforeFreeze: []string{"signal:NO"}, timeout: time.Second}).hooks()
	require.ErrorContains(t, err, `--before-freeze: "signal:NO": signal = "NO"`)
	_, err = (&hookFlags{}).hooks()
	require.ErrorContains(t, err, "--hook-timeout 0s: want a time above 0")
}
