package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/ociruntime"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

const runDir = ociruntime.RunDir(ociruntime.DefaultRunDir)

// buildLabel is on every donor; its value is the path of the build's work directory.
const buildLabel = "io.criu-docker.build"

// donor is the container that is booted and frozen.
type donor struct {
	eng      *engine.Engine
	work     *workDir
	opts     Options
	progress *progress

	id       string
	hostname string
}

// boot starts the donor and returns when it is ready and warm, and has been told that it is to be frozen.
func (d *donor) boot(ctx context.Context, spec engine.Spec) error {
	end := d.progress.begin("create")
	id, err := d.eng.Create(ctx, spec, engine.RuntimeName)
	if err != nil {
		return err
	}
	d.id = id
	if err := os.Mkdir(d.work.checkpoint(), 0o700); err != nil {
		return err
	}
	err = runDir.WriteRequest(id, ociruntime.Request{
		Kind:          ociruntime.KindDonor,
		Engine:        d.eng.Client.DaemonHost(),
		CheckpointDir: d.work.checkpoint(),
		MountFiles:    d.work.mountFiles(),
		Options:       d.opts.Checkpoint,
	})
	if err != nil {
		return err
	}
	end(id)

	end = d.progress.begin("boot")
	if err := d.eng.Start(ctx, id); err != nil {
		return err
	}
	addr, err := d.address(ctx)
	if err != nil {
		return d.withOutput(err)
	}
	if err := d.opts.Ready.wait(ctx, d.eng, id, addr); err != nil {
		return d.withOutput(err)
	}
	end("ready")
	if err := d.warmUp(ctx, addr); err != nil {
		return d.withOutput(err)
	}
	if err := d.tell(ctx, addr); err != nil {
		return d.withOutput(err)
	}
	return nil
}

func (d *donor) warmUp(ctx context.Context, addr string) error {
	if len(d.opts.Warmup) == 0 {
		return nil
	}
	end := d.progress.begin("warmup")
	for i, w := range d.opts.Warmup {
		if err := w.send(ctx, addr, d.opts.Ready.Port); err != nil {
			return fmt.Errorf("warm-up request %d: %w", i+1, err)
		}
	}
	end("warm")
	return nil
}

// freeze checkpoints the donor, which ends it, and collects what a snapshot is made of.
func (d *donor) freeze(ctx context.Context, cfg snapshot.Config) (snapshot.Source, error) {
	losses := d.look(ctx, &cfg)
	end := d.progress.begin("freeze")
	how, err := d.checkpoint(ctx)
	if err != nil {
		return snapshot.Source{}, fmt.Errorf("freeze %q: %w", d.opts.Spec.Config.Image, err)
	}
	images := d.work.checkpoint()
	if err := errors.Join(criu.DropEmptyTmpfs(images), criu.RearmTimers(images), criu.LetFilesGrow(images)); err != nil {
		return snapshot.Source{}, err
	}
	end(how)

	end = d.progress.begin("rootfs")
	report, err := runDir.ReadReport(d.id)
	if err != nil {
		return snapshot.Source{}, err
	}
	if report.UpperDir == "" {
		return snapshot.Source{}, fmt.Errorf("the donor did not run under the runtime %q: register it with `criu-docker runtime install`", engine.RuntimeName)
	}
	lostFiles, err := lostOfLayer(report.UpperDir)
	if err != nil {
		return snapshot.Source{}, fmt.Errorf("container layer: %w", err)
	}
	src := snapshot.Source{CheckpointDir: d.work.checkpoint()}
	var socketFiles []string
	if src.RootfsTar, socketFiles, err = captureLayer(report.UpperDir, d.work.rootfs()); err != nil {
		return snapshot.Source{}, err
	}
	end("captured")

	cfg.Hostname = d.hostname
	if cfg.Host, err = describeHost(ctx, d.eng, d.opts.CPU); err != nil {
		return snapshot.Source{}, err
	}
	if cfg.Host.Profiles, err = criu.Profiles(d.work.checkpoint()); err != nil {
		return snapshot.Source{}, fmt.Errorf("security of what was frozen: %w", err)
	}
	frozen, err := criu.Inspect(d.work.checkpoint())
	if err != nil {
		return snapshot.Source{}, fmt.Errorf("what was frozen: %w", err)
	}
	unwritten, err := criu.UnwrittenFIFOs(d.work.checkpoint())
	if err != nil {
		return snapshot.Source{}, err
	}
	found := []string{} // not nil: it was looked for
	for _, l := range slices.Concat(losses, lostFiles, unboundSockets(socketFiles, frozen.Sockets), spinningFIFOs(unwritten, cfg.Host.CRIU)) {
		if !slices.Contains(found, l) {
			found = append(found, l)
		}
	}
	cfg.Losses = &found
	for _, w := range slices.Concat(found, sharedRandomness(cfg.Generators, len(cfg.Hooks.AfterRestore))) {
		d.progress.warn("%s", w)
	}
	if cfg.MountFiles, err = criu.MountFiles(d.work.checkpoint()); err != nil {
		return snapshot.Source{}, err
	}
	cfg.KeptFiles = report.KeptFiles
	if _, err := os.Stat(d.work.mountFiles()); err == nil {
		src.MountFiles = d.work.mountFiles()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return snapshot.Source{}, err
	}
	for _, w := range report.NotKept {
		d.progress.warn("%s", w)
	}
	cfg.GuardRegions = report.GuardRegions
	if cfg.LargestMapping, err = criu.LargestMapping(d.work.checkpoint()); err != nil {
		return snapshot.Source{}, err
	}
	cfg.Processes, cfg.Files, cfg.Sockets, cfg.Mounts = frozen.Processes, frozen.Files, frozen.Sockets, frozen.Mounts
	src.Config = cfg
	return src, nil
}

// look looks at the running donor for what its clones will lack without a word from CRIU, which it returns, for what they will share, and
// for the addresses that it has. Those of the host are not its own, and the groups of another container are that one's.
func (d *donor) look(ctx context.Context, cfg *snapshot.Config) (losses []string) {
	pids, err := runDir.Processes(d.id)
	var c container.InspectResponse
	if err == nil {
		c, err = d.eng.Client.ContainerInspect(ctx, d.id)
	}
	var options, groups []string
	if err == nil {
		options, err = lostOptions(pids)
	}
	if err == nil && !c.HostConfig.NetworkMode.IsHost() {
		cfg.Addresses, err = ociruntime.Addresses(c.State.Pid)
	}
	if err == nil && !c.HostConfig.NetworkMode.IsHost() && !c.HostConfig.NetworkMode.IsContainer() {
		groups, err = lostGroups(c.State.Pid)
	}
	cfg.Generators = generatorsOf(pids)
	losses = slices.Concat(options, groups, lostSemaphores(pids))
	if err != nil {
		losses = append(losses, fmt.Sprintf("could not find out what clones lack of the donor's sockets: %v", err))
	}
	var affinity []string
	processors, err := runDir.Processors(d.id)
	if err == nil {
		affinity, err = lostAffinity(pids, processors)
	}
	if err != nil {
		affinity = []string{fmt.Sprintf("could not find out whether the donor avoids some processors: %v", err)}
	}
	return append(losses, affinity...)
}

// freezeTimeout bounds the writing of the donor's memory to disk.
const freezeTimeout = 10 * time.Minute

// How often a freeze is tried that fails because of a moment, and the growing pause between.
const (
	freezeAttempts = 8
	freezePause    = 100 * time.Millisecond
	// freezePatience is how long CRIU may have tried by itself: what has not passed by then does not.
	freezePatience = 30 * time.Second
)

// checkpoint lets CRIU write the donor's images, and returns when the donor has ended, with what there is to say about it. What fails
// because of what the app was doing at that moment is tried again: the donor runs on meanwhile.
func (d *donor) checkpoint(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, freezeTimeout, fmt.Errorf("CRIU was not done within %s", freezeTimeout))
	defer cancel()
	how := "frozen"
	for attempt := 1; ; attempt++ {
		begun := time.Now()
		err := d.tryCheckpoint(ctx)
		if err == nil {
			return how, d.eng.WaitStopped(ctx, d.id)
		}
		var failure *criu.Failure
		if !errors.As(err, &failure) || !failure.Passing || time.Since(begun) > freezePatience {
			return "", err
		}
		if attempt == freezeAttempts {
			return "", fmt.Errorf("%d times within a few seconds: %w", attempt, err)
		}
		how = fmt.Sprintf("frozen at attempt %d, since %s", attempt+1, failure.Meaning)
		d.progress.emit(Event{Step: "freeze", Message: "again, since " + failure.Meaning})
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(time.Duration(attempt) * freezePause):
		}
		// CRIU writes over what it has written, but not over what it doesn't write the next time.
		if rerr := errors.Join(os.RemoveAll(d.work.checkpoint()), os.Mkdir(d.work.checkpoint(), 0o700)); rerr != nil {
			return "", errors.Join(err, rerr)
		}
	}
}

// tryCheckpoint prefers what CRIU said over what the engine made of it.
func (d *donor) tryCheckpoint(ctx context.Context) error {
	if stopped, err := runDir.Stopped(d.id); err != nil {
		return err
	} else if stopped != "" {
		return fmt.Errorf("%s is stopped (SIGSTOP or SIGTSTP), and CRIU can't freeze a stopped process below cgroup v1: "+
			"let the app continue it (SIGCONT) before it is ready, or build on a host with cgroup v2", stopped)
	}
	if traced, err := runDir.Traced(d.id); err != nil {
		return err
	} else if traced != "" {
		return fmt.Errorf("%s is traced by another process, and CRIU can't freeze it: detach debuggers and tracers before the app is ready", traced)
	}
	err := d.eng.Freeze(ctx, d.id)
	if err == nil {
		return nil
	}
	switch report, rerr := runDir.ReadReport(d.id); {
	case rerr == nil && report.Failure != nil:
		return report.Failure
	case rerr == nil && report.Error != "":
		return errors.New(report.Error)
	}
	return err
}

// address returns where the host reaches the donor, and notes its hostname.
func (d *donor) address(ctx context.Context) (string, error) {
	c, err := d.eng.Client.ContainerInspect(ctx, d.id)
	if err != nil {
		return "", err
	}
	d.hostname = c.Config.Hostname
	return address(ctx, d.eng, c)
}

// address returns where the host reaches a container; "" if it has no network. One that has ended already is ErrNotReady.
func address(ctx context.Context, eng *engine.Engine, c container.InspectResponse) (string, error) {
	if !c.State.Running {
		return "", fmt.Errorf("%w: it ended with exit code %d", ErrNotReady, c.State.ExitCode)
	}
	if mode := c.HostConfig.NetworkMode; mode.IsContainer() {
		joined, err := eng.Client.ContainerInspect(ctx, mode.ConnectedContainer())
		if err != nil {
			return "", fmt.Errorf("network = %q: %w", mode, err)
		}
		c = joined
	}
	if c.HostConfig.NetworkMode.IsHost() {
		return "127.0.0.1", nil
	}
	for _, name := range slices.Sorted(maps.Keys(c.NetworkSettings.Networks)) {
		if ip := c.NetworkSettings.Networks[name].IPAddress; ip != "" {
			return ip, nil
		}
	}
	return "", nil
}

// withOutput adds what the app wrote last, which mostly tells why it is not ready.
func (d *donor) withOutput(err error) error {
	const lines = 20
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	out, oerr := d.eng.LastOutput(ctx, d.id, lines)
	if oerr != nil || out == "" {
		return err
	}
	return fmt.Errorf("%w; the donor's last output:\n%s", err, out)
}

// donorSpec is opts.Spec as a donor needs it: nothing published, nothing restarted, nothing removed by the engine, and
// with what Nomad gives every task if asked. work is the build's work directory; "" if nothing will be started.
func donorSpec(opts Options, work string) (engine.Spec, error) {
	spec := engine.Spec{Network: opts.Spec.Network}
	config := *opts.Spec.Config
	config.Labels = maps.Clone(config.Labels)
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	config.Labels[buildLabel] = work
	host := container.HostConfig{}
	if opts.Spec.Host != nil {
		host = *opts.Spec.Host
	}
	host.PortBindings, host.PublishAllPorts = nil, false
	host.RestartPolicy, host.AutoRemove = container.RestartPolicy{}, false
	config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}} // nothing else is to run while it is frozen
	spec.Config, spec.Host = &config, &host
	if opts.Nomad {
		if err := addNomad(&config, &host, filepath.Join(work, "nomad")); err != nil {
			return engine.Spec{}, err
		}
	}
	return spec, nil
}

// addNomad gives the donor the directories, the variables and the capabilities that Nomad's drivers give a task whose file system comes
// from an image.
func addNomad(config *container.Config, host *container.HostConfig, dir string) error {
	host.CapDrop = append(slices.Clone(host.CapDrop), "NET_RAW") // as Nomad's drivers do by default; a cap_add wins
	host.Binds = slices.Clone(host.Binds)
	config.Env = slices.Clone(config.Env)
	for _, d := range []struct{ name, variable string }{
		{"alloc", "NOMAD_ALLOC_DIR"}, {"local", "NOMAD_TASK_DIR"}, {"secrets", "NOMAD_SECRETS_DIR"},
	} {
		source := filepath.Join(dir, d.name)
		if filepath.IsAbs(dir) {
			if err := os.MkdirAll(source, 0o777); err != nil {
				return err
			}
			if err := os.Chmod(source, 0o777); err != nil { // as in an allocation: any task user may write
				return err
			}
			if d.name == "alloc" {
				if err := makeShared(source); err != nil {
					return err
				}
			} else { // hooks read it, those of the profile too
				if err := os.WriteFile(filepath.Join(source, snapshot.AllocationEnvFile), nil, 0o644); err != nil {
					return err
				}
			}
		}
		host.Binds = append(host.Binds, source+":/"+d.name)
		config.Env = append(config.Env, d.variable+"=/"+d.name)
	}
	return nil
}

// makeShared makes what every allocation has in its shared directory.
func makeShared(dir string) error {
	for _, name := range []string{"data", "logs", "tmp"} {
		sub := filepath.Join(dir, name)
		if err := os.MkdirAll(sub, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(sub, 0o777); err != nil { // whatever the umask
			return err
		}
	}
	return nil
}
