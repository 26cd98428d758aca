package hook

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Hook{
		"signal:USR1":        {Type: Signal, Signal: "USR1"},
		"exec:echo a > /b":   {Type: Exec, Command: []string{"/bin/sh", "-c", "echo a > /b"}},
		"http://:80/x?y=1":   {Type: HTTP, Port: 80, Path: "/x?y=1"},
		"http://:3000":       {Type: HTTP, Port: 3000, Path: "/"},
		"http://:3000/a%20b": {Type: HTTP, Port: 3000, Path: "/a%20b"},
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		if text != "http://:3000" {
			require.Equal(t, text, got.String())
		}
	}
	short, err := Parse("signal:sigusr2")
	require.NoError(t, err)
	require.Equal(t, "signal:USR2", short.String())
	for text, want := range map[string]string{
		"":                   "want signal:NAME, exec:COMMAND or http://:PORT/PATH",
		"signal:NONE":        `signal = "NONE": want a name such as USR1`,
		"signal:KILL":        "no app can handle it",
		"exec: ":             "names no command",
		"http://:0/":         "want http://:PORT/PATH with a port of the container",
		"http://host:80/":    "and no host",
		"https://:80/":       "want signal:NAME",
		"http://:80/\r\nX:y": "invalid control character",
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestOverride(t *testing.T) {
	own, err := ParseOverride(nil)
	require.NoError(t, err)
	require.Nil(t, own, "the snapshot's own")
	none, err := ParseOverride([]string{"none"})
	require.NoError(t, err)
	require.Equal(t, []Hook{}, none)
	others, err := ParseOverride([]string{"signal:HUP", "exec:true"})
	require.NoError(t, err)
	require.Len(t, others, 2)
	_, err = ParseOverride([]string{"none", "signal:HUP"})
	require.ErrorContains(t, err, `"none": want signal:NAME`)
}

func TestRun(t *testing.T) {
	var ran []Hook
	hooks := []Hook{{Type: Signal, Signal: "HUP"}, {Type: Exec, Command: []string{"x"}, Timeout: time.Millisecond}, {Type: Signal, Signal: "USR1"}}
	err := Run(t.Context(), "before_freeze", hooks, func(ctx context.Context, h Hook) error {
		ran = append(ran, h)
		if h.Type == Exec {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	require.EqualError(t, err, `before_freeze[1], exec:["x"]: it was not done within 1ms: context deadline exceeded`)
	require.Equal(t, hooks[:2], ran, "none after one that fails")
	require.NoError(t, Run(t.Context(), "before_freeze", nil, nil))
}

func TestLimit(t *testing.T) {
	require.ErrorContains(t, ValidateAll([]Hook{{Type: Signal, Signal: "HUP"}, {Type: "mail"}}), `[1]: type = "mail": want signal, exec or http`)
	require.ErrorContains(t, ValidateAll(make([]Hook, mostHooks+1)), "101 hooks")
	require.Equal(t, DefaultTimeout, Hook{}.Limit())
	require.Equal(t, time.Second, Hook{Timeout: time.Second}.Limit())
	require.ErrorContains(t, Hook{Type: Signal, Signal: "HUP", Timeout: -1}.Validate(), "timeout = -1ns")
	require.ErrorContains(t, Hook{Type: HTTP, Port: 80, Path: "/ HTTP/1.1"}.Validate(), "has no spaces")
}
