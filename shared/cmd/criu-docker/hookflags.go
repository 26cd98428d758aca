package main

import (
	"fmt"
	"time"

	"github.com/criu-docker/criu-docker/shared/hook"
)

// hookFlags are the hooks of a command line.
type hookFlags struct {
	beforeFreeze, afterRestore []string
	timeout                    time.Duration
}

func (f *hookFlags) hooks() (h hook.Hooks, err error) {
	if h.BeforeFreeze, err = f.parse("--before-freeze", f.beforeFreeze); err != nil {
		return h, err
	}
	h.AfterRestore, err = f.parse("--after-restore", f.afterRestore)
	return h, err
}

// override returns the hooks that are to be run in place of the snapshot's; nil if those are.
func (f *hookFlags) override() ([]hook.Hook, error) {
	hooks, err := hook.ParseOverride(f.afterRestore)
	return f.limited("--after-restore", hooks, err)
}

func (f *hookFlags) parse(flag string, texts []string) ([]hook.Hook, error) {
	hooks, err := hook.ParseAll(texts)
	return f.limited(flag, hooks, err)
}

// limited gives hooks of a flag, or what is wrong with them, their time.
func (f *hookFlags) limited(flag string, hooks []hook.Hook, err error) ([]hook.Hook, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if f.timeout <= 0 {
		return nil, fmt.Errorf("--hook-timeout %s: want a time above 0, such as 10s", f.timeout)
	}
	for i := range hooks {
		hooks[i].Timeout = f.timeout
	}
	return hooks, nil
}
