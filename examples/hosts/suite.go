package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// suite tries lanes, one after the other. All of them are up until the end, for what one has frozen is restored on the others.
type suite struct {
	lab, bin, packages, older, readme, dir, out string
	lanes                                       []lane
}

// phases are what is done on each lane before it is done to the next one; the host does something between them.
const (
	phaseReadme  = "readme"
	phaseFirst   = "first"
	phaseUpgrade = "upgrade"
	phaseEngine  = "engine"
	phaseReboot  = "reboot"
	phaseOthers  = "others"
	phasePurge   = "purge"
	phaseForget  = "forget"
	downDeadline = 10 * time.Minute
	patience     = 3 * time.Minute
)

func (s *suite) run(ctx context.Context) (err error) {
	for _, dir := range []*string{&s.lab, &s.bin, &s.packages, &s.older, &s.readme, &s.out} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	for _, l := range s.lanes {
		if err := errors.Join(os.RemoveAll(s.store(l)), os.RemoveAll(resultFile(s.out, l.Name))); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, s.down(ctx)) }()
	var failed []error
	var up []lane
	for _, l := range s.lanes {
		slog.Info("lane", "name", l.Name)
		if err := s.first(ctx, l); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", l.Name, err))
			continue
		}
		up = append(up, l)
	}
	// Each lane starts what all have frozen, before one of them forgets it.
	for _, phase := range []string{phaseOthers, phaseForget, phasePurge} {
		for _, l := range up {
			if phase == phasePurge && !l.Packages {
				continue
			}
			if err := s.check(ctx, l, phase); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", l.Name, err))
			}
		}
	}
	for _, l := range up {
		came, err := readResult(s.out, l.Name)
		failed = append(failed, err, came.check(l))
	}
	return errors.Join(failed...)
}

// first brings a lane up and does all that needs no other lane.
func (s *suite) first(ctx context.Context, l lane) error {
	if err := s.labCommand(ctx, l, "down", "--purge"); err != nil { // an earlier run, if that was killed
		return err
	}
	if err := s.up(ctx, l); err != nil {
		return err
	}
	if l.Packages {
		if err := s.install(ctx, l); err != nil {
			return err
		}
	}
	if err := s.check(ctx, l, phaseFirst); err != nil {
		return err
	}
	if l.Packages {
		if err := s.check(ctx, l, phaseUpgrade); err != nil {
			return err
		}
	}
	if len(l.Then) > 0 {
		l.Up = l.Then
		if err := s.up(ctx, l); err != nil {
			return err
		}
	} else if err := s.labCommand(ctx, l, "restart", dockerUnit(l)); err != nil {
		return err
	}
	if err := s.check(ctx, l, phaseEngine); err != nil {
		return err
	}
	if err := s.labCommand(ctx, l, "down"); err != nil {
		return err
	}
	if err := s.up(ctx, l); err != nil {
		return err
	}
	return s.check(ctx, l, phaseReboot)
}

func (s *suite) up(ctx context.Context, l lane) error {
	args := append([]string{"up", "--images=tiny,pause"}, l.Up...)
	if !l.Packages {
		var programs []string
		for _, name := range []string{"criu-docker", "criu-docker-runc", "nomad-driver-criu-docker"} {
			programs = append(programs, filepath.Join(s.bin, name))
		}
		args = append(args, "--install="+strings.Join(programs, ","))
	}
	return s.labCommand(ctx, l, args...)
}

// install has the README's words install the package and try it, and then the driver's package.
func (s *suite) install(ctx context.Context, l lane) error {
	if err := s.check(ctx, l, phaseReadme); err != nil {
		return err
	}
	script := `apt-get install -qy ./nomad-driver-criu-docker_*_amd64.deb
mkdir -p /opt/nomad/plugins
ln -sf /usr/lib/nomad/plugins/nomad-driver-criu-docker /opt/nomad/plugins/
cp ` + "/host" + s.client() + ` /etc/nomad/client.d/criu-docker.hcl`
	if err := os.WriteFile(s.client(), []byte(nomadClient), 0o644); err != nil {
		return err
	}
	if err := s.labCommand(ctx, l, "exec", "--", "sh", "-ec", "cd /host"+s.packages+"\n"+script); err != nil {
		return err
	}
	return s.labCommand(ctx, l, "restart", "nomad")
}

// nomadClient is what an operator adds to the client's configuration.
const nomadClient = `plugin "nomad-driver-criu-docker" {
  config {
    infra_image = "pause:lab"

    snapshot {
      store = "gs://snapshots"
    }
  }
}
`

func (s *suite) client() string { return filepath.Join(s.dir, "client.hcl") }

// check does a phase inside the lane. What goes wrong with a step is in the results; an error is one of the suite itself.
func (s *suite) check(ctx context.Context, l lane, phase string) error {
	steps := patience
	if l.Slow {
		steps *= 10
	}
	return s.labCommand(ctx, l, "exec", "--", filepath.Join(s.bin, "hosts"), "check", phase, "--patience", steps.String(),
		"--lane", l.Name, "--stores", "/host"+filepath.Join(s.dir, "stores"), "--bin", "/host"+s.bin, "--packages", "/host"+s.packages, "--older", "/host"+s.older, "--readme", "/host"+s.readme, "--out", "/host"+s.out)
}

// down takes all lanes down, and what they have stored away.
func (s *suite) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downDeadline)
	defer cancel()
	var failed []error
	for _, l := range s.lanes {
		failed = append(failed, s.labCommand(ctx, l, "down", "--purge"))
	}
	return errors.Join(append(failed, os.RemoveAll(filepath.Join(s.dir, "stores")))...)
}

// labCommand runs the lab's program for a lane, for everybody to see.
func (s *suite) labCommand(ctx context.Context, l lane, args ...string) error {
	cmd := exec.CommandContext(ctx, s.lab, append([]string{"--dir", filepath.Join(s.dir, l.Name)}, args...)...)
	cmd.Env = os.Environ()
	if os.Getenv("LAB_CACHE") == "" {
		cmd.Env = append(cmd.Env, "LAB_CACHE="+filepath.Join(labDir(), "cache"))
	}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it has begun
	cmd.WaitDelay = downDeadline
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("lab %s: %w", args[0], err)
	}
	return nil
}

// labDir is the usual lab's directory, whose cache the lanes share.
func labDir() string {
	if dir := os.Getenv("LAB_DIR"); dir != "" {
		return dir
	}
	return "/var/lib/criu-docker-lab"
}

func (s *suite) store(l lane) string { return filepath.Join(s.dir, "stores", l.Name) }

// dockerUnit is what the engine's service is called there.
func dockerUnit(l lane) string {
	if l.Packages {
		return "docker"
	}
	return "dockerd"
}
