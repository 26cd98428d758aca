package build

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/criu-docker/criu-docker/shared/hook"
)

// tell runs the hooks that come before the freeze.
func (d *donor) tell(ctx context.Context, addr string) error {
	if len(d.opts.Hooks.BeforeFreeze) == 0 {
		return nil
	}
	end := d.progress.begin("before_freeze")
	err := hook.Run(ctx, "before_freeze", d.opts.Hooks.BeforeFreeze, func(ctx context.Context, h hook.Hook) error {
		return d.runHook(ctx, h, addr)
	})
	if err != nil {
		return err
	}
	end("told")
	return nil
}

func (d *donor) runHook(ctx context.Context, h hook.Hook, addr string) error {
	switch h.Type {
	case hook.Signal:
		return d.eng.Client.ContainerKill(ctx, d.id, "SIG"+h.Signal)
	case hook.Exec:
		return d.eng.Exec(ctx, d.id, h.Command)
	case hook.HTTP:
		if addr == "" {
			return errors.New("the donor has no network: use signal or exec")
		}
		request := WarmupRequest{Method: http.MethodPost, Port: h.Port, Path: h.Path}
		return request.once(ctx, addr, h.Port, func(status int) bool { return status/100 == 2 })
	default:
		return h.Validate()
	}
}

// validateHooks names the first hook that can't be run.
func validateHooks(hooks hook.Hooks) error {
	if err := hook.ValidateAll(hooks.BeforeFreeze); err != nil {
		return fmt.Errorf("before_freeze%w", err)
	}
	if err := hook.ValidateAll(hooks.AfterRestore); err != nil {
		return fmt.Errorf("after_restore%w", err)
	}
	return nil
}
