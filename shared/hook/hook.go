// Package hook describes what an app is told before it is frozen and after it has been restored: a signal, a command in its
// container, or an HTTP request. It is part of what the runtime links in, and so it is small.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultTimeout bounds a hook that names no time.
const DefaultTimeout = 10 * time.Second

// Type is how an app is told.
type Type string

// The kinds of hooks.
const (
	Signal Type = "signal"
	Exec   Type = "exec"
	HTTP   Type = "http"
)

// Hook is one thing to do.
type Hook struct {
	Type Type `json:"type"`
	// Signal is sent to the container's first process: "USR1". Nothing waits for what the app makes of it.
	Signal string `json:"signal,omitempty"`
	// Command runs in the container, as its user, and is to exit with 0.
	Command []string `json:"command,omitempty"`
	// Port and Path get a POST request, whose body is the container's identity in JSON, from inside the container. Any 2xx status is success.
	Port int    `json:"port,omitempty"`
	Path string `json:"path,omitempty"`
	// Timeout bounds it; 0 means DefaultTimeout.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
}

// Hooks are those of a snapshot, in their order.
type Hooks struct {
	BeforeFreeze []Hook `json:"before_freeze,omitempty"` // in the donor, when it is ready and warm
	AfterRestore []Hook `json:"after_restore,omitempty"` // in every clone, at each of its starts, before the start is done
}

// Parse reads a hook as command lines have it: signal:NAME, exec:COMMAND (run by the container's /bin/sh) or http://:PORT/PATH.
func Parse(text string) (Hook, error) {
	kind, rest, _ := strings.Cut(text, ":")
	h := Hook{Type: Type(kind)}
	switch h.Type {
	case Signal:
		h.Signal = strings.TrimPrefix(strings.ToUpper(rest), "SIG")
	case Exec:
		if strings.TrimSpace(rest) != "" {
			h.Command = []string{"/bin/sh", "-c", rest}
		}
	case HTTP:
		u, err := url.Parse(text)
		if err != nil {
			return Hook{}, err
		}
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 || u.Hostname() != "" || u.User != nil {
			return Hook{}, fmt.Errorf("%q: want http://:PORT/PATH with a port of the container, and no host", text)
		}
		h.Port, h.Path = int(port), u.RequestURI()
	default:
		return Hook{}, fmt.Errorf("%q: want signal:NAME, exec:COMMAND or http://:PORT/PATH", text)
	}
	if err := h.Validate(); err != nil {
		return Hook{}, fmt.Errorf("%q: %w", text, err)
	}
	return h, nil
}

// None is, alone in a list of overriding hooks, no hook at all.
const None = "none"

// ParseOverride reads the hooks that are to be run in place of a snapshot's own. They are nil if the list is empty, so that the snapshot's
// are run, and empty for None.
func ParseOverride(texts []string) ([]Hook, error) {
	if len(texts) == 1 && texts[0] == None {
		return []Hook{}, nil
	}
	return ParseAll(texts)
}

// ParseAll reads several hooks.
func ParseAll(texts []string) ([]Hook, error) {
	var hooks []Hook
	for _, text := range texts {
		h, err := Parse(text)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, h)
	}
	return hooks, nil
}

// Validate returns what is wrong with a hook.
func (h Hook) Validate() error {
	if h.Timeout < 0 {
		return fmt.Errorf("timeout = %s: want a time above 0", h.Timeout)
	}
	switch h.Type {
	case Signal:
		if unix.SignalNum("SIG"+h.Signal) == 0 {
			return fmt.Errorf("signal = %q: want a name such as USR1", h.Signal)
		}
		if slices.Contains([]string{"KILL", "STOP"}, h.Signal) {
			return fmt.Errorf("signal = %q: no app can handle it", h.Signal)
		}
	case Exec:
		if len(h.Command) == 0 || h.Command[0] == "" {
			return errors.New("exec names no command")
		}
	case HTTP:
		if h.Port < 1 || h.Port > 65535 {
			return fmt.Errorf("port = %d: want a port of the container", h.Port)
		}
		if !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " \t\r\n") {
			return fmt.Errorf("path = %q: want one that begins with / and has no spaces", h.Path)
		}
	default:
		return fmt.Errorf("type = %q: want %s, %s or %s", h.Type, Signal, Exec, HTTP)
	}
	return nil
}

// mostHooks is how many there may be of a kind.
const mostHooks = 100

// ValidateAll returns what is wrong with some hooks, after the number of the one, "[1]: …".
func ValidateAll(hooks []Hook) error {
	if len(hooks) > mostHooks {
		return fmt.Errorf(": %d hooks, and no more than %d can be", len(hooks), mostHooks)
	}
	for i, h := range hooks {
		if err := h.Validate(); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

// Run runs hooks in their order, each within its time, by what runs one of them. The error names the first one that fails: "after_restore[1],
// signal:HUP: …".
func Run(ctx context.Context, list string, hooks []Hook, run func(context.Context, Hook) error) error {
	for i, h := range hooks {
		if err := h.within(ctx, run); err != nil {
			return fmt.Errorf("%s[%d], %s: %w", list, i, h, err)
		}
	}
	return nil
}

func (h Hook) within(ctx context.Context, run func(context.Context, Hook) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, h.Limit(), fmt.Errorf("it was not done within %s", h.Limit()))
	defer cancel()
	err := run(ctx, h)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Limit is how long the hook may take.
func (h Hook) Limit() time.Duration {
	if h.Timeout == 0 {
		return DefaultTimeout
	}
	return h.Timeout
}

// String is the hook as Parse reads it, or nearly so for a command that no shell runs.
func (h Hook) String() string {
	switch h.Type {
	case Signal:
		return "signal:" + h.Signal
	case HTTP:
		return fmt.Sprintf("http://:%d%s", h.Port, h.Path)
	}
	if len(h.Command) == 3 && h.Command[0] == "/bin/sh" && h.Command[1] == "-c" {
		return "exec:" + h.Command[2]
	}
	b, err := json.Marshal(h.Command)
	if err != nil {
		return "exec"
	}
	return "exec:" + string(b)
}
