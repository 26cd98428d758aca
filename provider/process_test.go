package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/criu-docker/criu-docker/shared/store"
)

// binary is what Terraform looks for; under that name, this test program is the provider (see TestMain).
const binary = "terraform-provider-criu"

// patience is for what takes seconds, on a machine that is busy as well.
const patience = 2 * time.Minute

// project is a directory with a configuration and a state, and a Terraform that runs the provider as a process of its own.
type project struct {
	dir string
	env []string
}

func newProject(t *testing.T) project {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := project{dir: t.TempDir()}
	settings := filepath.Join(p.dir, "terraform.rc")
	bin := filepath.Join(p.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(bin, binary)); err != nil {
		t.Fatal(err)
	}
	p.write(t, "terraform.rc", fmt.Sprintf("provider_installation {\n dev_overrides {\n %q = %q\n }\n direct {}\n}\n", "criu-docker/criu", bin))
	p.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+settings, "TF_IN_AUTOMATION=1", "NO_COLOR=1", "TMPDIR="+p.dir)
	return p
}

// configure replaces the project's configuration.
func (p project) configure(t *testing.T, config string) {
	t.Helper()
	p.write(t, "main.tf", "terraform {\n required_providers {\n criu = { source = \"criu-docker/criu\" }\n }\n}\n"+config)
}

func (p project) write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// terraform runs a command that has to succeed, and returns what it printed.
func (p project) terraform(t *testing.T, args ...string) string {
	t.Helper()
	r := p.start(t, args...)
	if err := r.wait(t); err != nil {
		t.Fatalf("terraform %s: %s\n%s", strings.Join(args, " "), err, r.out)
	}
	return r.out.String()
}

// running is a Terraform that was started. It leads a process group, as in a shell, to which its providers belong.
type running struct {
	cmd   *exec.Cmd
	out   *bytes.Buffer
	ended chan struct{} // closed when it has ended
	err   error         // then: how
}

func (p project) start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: exec.Command("terraform", args...), out: &bytes.Buffer{}, ended: make(chan struct{})}
	r.cmd.Dir, r.cmd.Env = p.dir, p.env
	r.cmd.Stdout, r.cmd.Stderr = r.out, r.out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() { // of a test that failed before its end
		select {
		case <-r.ended:
		default:
			r.signal(t, syscall.SIGKILL)
			<-r.ended
		}
	})
	return r
}

// signal sends a signal to Terraform and its providers, as a terminal does and as a CI system that gives up.
func (r *running) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-r.cmd.Process.Pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}

func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(patience):
		r.giveUp(t, "terraform did not end")
		return nil
	}
}

// giveUp ends a test that has waited for too long.
func (r *running) giveUp(t *testing.T, reason string) {
	t.Helper()
	r.signal(t, syscall.SIGKILL)
	<-r.ended
	t.Fatalf("%s within %s; terraform said\n%s", reason, patience, r.out)
}

// started waits until a container of the image runs. It is called before what starts it; the returned function waits.
func (i testImage) started(t *testing.T) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	stream, failed := i.eng.Client.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("event", string(events.ActionStart)),
		filters.Arg("image", i.tag),
	)})
	return func() {
		select {
		case <-stream:
		case err := <-failed:
			t.Fatalf("no donor was started: %s", err)
		}
	}
}

// neverReady is a configuration whose donor goes on booting.
func neverReady(s testStore, image string) string {
	return strings.Replace(hcl(s, image, `command = ["sleep", "1000"]`), "port = 80", "port = 81", 1)
}

// TestCancelled: Ctrl-C, which reaches the provider as well, and a SIGTERM to Terraform end the boot, remove the donor and
// publish nothing.
func TestCancelled(t *testing.T) {
	for name, cancel := range map[string]func(*running, *testing.T){
		"SIGINT to all": func(r *running, t *testing.T) { r.signal(t, syscall.SIGINT) },
		"SIGTERM to Terraform": func(r *running, t *testing.T) {
			if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, img, p := directory(t), newImage(t), newProject(t)
			p.configure(t, neverReady(s, img.tag))
			booting := img.started(t)
			r := p.start(t, "apply", "-auto-approve")
			booting()
			cancel(r, t)
			if err := r.wait(t); err == nil || !says(`context canceled`).MatchString(r.out.String()) {
				t.Errorf("%v; terraform said\n%s", err, r.out)
			}
			if left := img.containers(t.Context(), t); len(left) > 0 {
				t.Errorf("left of the donor: %q", left)
			}
			if left := s.objects(t); len(left) > 0 {
				t.Errorf("left in the store: %q", left)
			}
			if left := p.terraform(t, "state", "list"); left != "" {
				t.Errorf("left in the state: %s", left)
			}
		})
	}
}

// TestKilledWhileBooting: nothing is left that could remove the donor. The next build does, whatever its image.
func TestKilledWhileBooting(t *testing.T) {
	s, img, other, p := directory(t), newImage(t), newImage(t), newProject(t)
	p.configure(t, neverReady(s, img.tag))
	booting := img.started(t)
	r := p.start(t, "apply", "-auto-approve")
	booting()
	r.signal(t, syscall.SIGKILL)
	if err := r.wait(t); err == nil {
		t.Errorf("terraform was not killed; it said\n%s", r.out)
	}
	if left := img.containers(t.Context(), t); len(left) != 1 {
		t.Errorf("the killed build left %q, want its donor", left)
	}
	if left := s.objects(t); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
	p.configure(t, hcl(s, other.tag, ""))
	p.terraform(t, "apply", "-auto-approve")
	if left := img.containers(t.Context(), t); len(left) > 0 {
		t.Errorf("left of the donor: %q", left)
	}
	p.terraform(t, "destroy", "-auto-approve")
	if left := s.objects(t); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
}

// TestKilledWhilePublishing: what can be found is whole, the next apply publishes, and its destroy leaves nothing.
func TestKilledWhilePublishing(t *testing.T) {
	onEachStore(t, func(t *testing.T, s testStore) {
		img, p := newImage(t), newProject(t)
		p.configure(t, hcl(s, img.tag, ""))
		r := p.start(t, "apply", "-auto-approve")
		r.publishing(t, s)
		r.signal(t, syscall.SIGKILL)
		if err := r.wait(t); err == nil {
			t.Logf("terraform was faster than its killer")
		}
		s.open(t, func(ctx context.Context, st store.Store) error {
			for _, ref := range s.refs(t) {
				if _, err := lookUp(ctx, st, ref); err != nil {
					return err
				}
			}
			return nil
		})
		p.terraform(t, "apply", "-auto-approve")
		if refs := s.refs(t); len(refs) != 1 {
			t.Errorf("the store holds %q, want one snapshot", refs)
		}
		if left := img.containers(t.Context(), t); len(left) > 0 {
			t.Errorf("left of the donor: %q", left)
		}
		p.terraform(t, "destroy", "-auto-approve")
	})
}

// publishing waits until something appears in the store.
func (r *running) publishing(t *testing.T, s testStore) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); len(s.objects(t)) == 0; {
		select {
		case <-tick.C:
		case <-r.ended:
			if len(s.objects(t)) == 0 {
				t.Fatalf("nothing was published: %v\n%s", r.err, r.out)
			}
		case <-deadline:
			r.giveUp(t, "nothing was published")
		}
	}
}
