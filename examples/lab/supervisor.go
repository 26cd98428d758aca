package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor starts every process of a node that is started by its init, and reaps all processes of the node. Only
// one place may wait for children, or one waiter takes another's exit status: so nothing here uses exec.Cmd.Wait.
type supervisor struct {
	logDir string
	cgroup string // parent of the cgroups of commands that clients run

	mu       sync.Mutex
	children map[int]chan unix.WaitStatus
	services map[string]*running
}

func newSupervisor(logDir, cgroup string) *supervisor {
	return &supervisor{
		logDir:   logDir,
		cgroup:   cgroup,
		children: map[int]chan unix.WaitStatus{},
		services: map[string]*running{},
	}
}

// reap waits for every child, those that were orphaned to init included.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		default: // no child at the moment
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if ch, ok := s.children[pid]; ok {
			ch <- status
			delete(s.children, pid)
		}
		s.mu.Unlock()
	}
}

// start starts a process and returns its pid and a channel that receives its exit status.
func (s *supervisor) start(cmd *exec.Cmd) (int, <-chan unix.WaitStatus, error) {
	s.mu.Lock() // held so that reap can't see the exit of a child that isn't registered yet
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	ch := make(chan unix.WaitStatus, 1)
	pid := cmd.Process.Pid
	s.children[pid] = ch
	_ = cmd.Process.Release()
	return pid, ch, nil
}

// running is a service and its present state.
type running struct {
	service
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	pid      int
	since    time.Time
	starts   int
	ready    bool
	lastExit string
}

// serviceState is what the outside may know about a service.
type serviceState struct {
	Name     string    `json:"name"`
	PID      int       `json:"pid"` // inside the node
	Since    time.Time `json:"since"`
	Starts   int       `json:"starts"`
	Ready    bool      `json:"ready"`
	LastExit string    `json:"last_exit,omitempty"`
	Log      string    `json:"log"`
}

// add starts a service and keeps it running until it is removed.
func (s *supervisor) add(svc service) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{service: svc, cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	s.services[svc.Name] = r
	s.mu.Unlock()
	go s.keepRunning(ctx, r)
}

func (s *supervisor) keepRunning(ctx context.Context, r *running) {
	defer close(r.done)
	for ctx.Err() == nil {
		if !s.othersReady(r.After) {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		err := s.runOnce(ctx, r)
		r.mu.Lock()
		r.pid, r.ready, r.lastExit = 0, false, fmt.Sprint(err)
		r.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		slog.Warn("service ended, starting it again", "service", r.Name, "exit", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// othersReady reports whether the named services are; those that don't run on this node don't count.
func (s *supervisor) othersReady(names []string) bool {
	for _, state := range s.states() {
		if slices.Contains(names, state.Name) && !state.Ready {
			return false
		}
	}
	return true
}

// runOnce starts the service, and returns how it ended. When ctx ends it is asked to stop, then made to.
func (s *supervisor) runOnce(ctx context.Context, r *running) error {
	if err := writeFiles(r.Files); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.logDir, r.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pid, exited, err := s.start(cmd)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.pid, r.since = pid, time.Now()
	r.starts++
	r.mu.Unlock()
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	go r.waitReady(probing)
	select {
	case status := <-exited:
		return describeExit(status)
	case <-ctx.Done():
	}
	_ = unix.Kill(pid, unix.SIGTERM)
	select {
	case status := <-exited:
		return describeExit(status)
	case <-time.After(12 * time.Second):
		_ = unix.Kill(-pid, unix.SIGKILL)
		return describeExit(<-exited)
	}
}

func (r *running) waitReady(ctx context.Context) {
	for ctx.Err() == nil {
		if r.Probe.check(ctx) == nil {
			r.mu.Lock()
			r.ready = true
			r.mu.Unlock()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func describeExit(status unix.WaitStatus) error {
	if status.Signaled() {
		return fmt.Errorf("killed by %s", unix.SignalName(status.Signal()))
	}
	return fmt.Errorf("exit status %d", status.ExitStatus())
}

// stop ends a service; it stays known, as stopped.
func (s *supervisor) stop(ctx context.Context, name string) error {
	s.mu.Lock()
	r, ok := s.services[name]
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("this node has no service %q", name)
	}
	r.cancel()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", name, ctx.Err())
	}
}

// ensure makes these, and no others, the services of the node.
func (s *supervisor) ensure(ctx context.Context, wanted []service) error {
	keep := map[string]bool{}
	for _, svc := range wanted {
		keep[svc.Name] = true
		s.mu.Lock()
		r := s.services[svc.Name]
		s.mu.Unlock()
		if r != nil && !r.stopped() && reflect.DeepEqual(r.service, svc) {
			continue
		}
		if r != nil {
			if err := s.stop(ctx, svc.Name); err != nil {
				return err
			}
		}
		s.add(svc)
	}
	for _, state := range s.states() {
		if keep[state.Name] {
			continue
		}
		if err := s.stop(ctx, state.Name); err != nil {
			return err
		}
		s.mu.Lock()
		delete(s.services, state.Name)
		s.mu.Unlock()
	}
	return nil
}

// stopped reports whether nothing keeps the service running any more.
func (r *running) stopped() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// restart stops a service and starts it anew.
func (s *supervisor) restart(ctx context.Context, name string) error {
	if err := s.stop(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	svc := s.services[name].service
	s.mu.Unlock()
	s.add(svc)
	return nil
}

func (s *supervisor) stopAll(ctx context.Context) {
	var wg sync.WaitGroup
	for _, state := range s.states() {
		wg.Go(func() {
			if err := s.stop(ctx, state.Name); err != nil {
				slog.Warn("service does not stop, killing it", "service", state.Name, "err", err)
			}
		})
	}
	wg.Wait()
}

func (s *supervisor) states() []serviceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := []serviceState{}
	for _, r := range s.services {
		r.mu.Lock()
		states = append(states, serviceState{
			Name: r.Name, PID: r.pid, Since: r.since, Starts: r.starts, Ready: r.ready, LastExit: r.lastExit,
			Log: filepath.Join(s.logDir, r.Name+".log"),
		})
		r.mu.Unlock()
	}
	sort.Slice(states, func(i, j int) bool { return states[i].Name < states[j].Name })
	return states
}
