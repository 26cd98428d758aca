package build

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// describeHost says what froze the donor, and what it was held to.
func describeHost(ctx context.Context, eng *engine.Engine, cpu criu.Baseline) (snapshot.Host, error) {
	h, err := criu.HostInfo(ctx)
	if err != nil {
		return snapshot.Host{}, fmt.Errorf("this host: %w", err)
	}
	h.CPUBaseline = cpu
	info, err := eng.Client.Info(ctx)
	if err != nil {
		return snapshot.Host{}, fmt.Errorf("the engine: %w", err)
	}
	return snapshot.Host{Host: h, Engine: info.ServerVersion, Runc: info.RuncCommit.ID}, nil
}

// checkBaseline reports whether this host's processor has what the app is to be held to: it would not run.
func checkBaseline(ctx context.Context, cpu criu.Baseline) error {
	if cpu == "" {
		return nil
	}
	h, err := criu.HostInfo(ctx)
	if err != nil {
		return fmt.Errorf("this host: %w", err)
	}
	if missing := cpu.Missing(h); len(missing) > 0 {
		return fmt.Errorf("cpu = %s: this machine's processor (%s) lacks %s: build on one that has it, or choose a lower level",
			cpu, h.CPUModel, strings.Join(missing, ", "))
	}
	return nil
}

// holdTo adds to a donor's environment what holds its libraries to a level of the processor. They take no part in the snapshot's
// identity: clones have them in their memory, and are asked for without.
func holdTo(cpu criu.Baseline, config *container.Config, img image.InspectResponse) error {
	own := map[string]string{}
	var imageEnv []string
	if img.Config != nil {
		imageEnv = img.Config.Env
	}
	for _, kv := range slices.Concat(imageEnv, config.Env) {
		if name, value, ok := strings.Cut(kv, "="); ok {
			own[name] = value
		} else {
			delete(own, name)
		}
	}
	add, err := cpu.Environment(own)
	if err != nil {
		return err
	}
	config.Env = slices.DeleteFunc(slices.Clone(config.Env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, ours := add[name]
		return ours
	})
	for _, name := range slices.Sorted(maps.Keys(add)) {
		config.Env = append(config.Env, name+"="+add[name])
	}
	return nil
}
