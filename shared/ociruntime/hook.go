package ociruntime

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hook runs inside `runc restore`, as the clone's createRuntime hook: CRIU has forked the first task, nothing of the app
// is there yet. It tells the supervisor the pid and returns when the clone may go on. An error makes runc undo the
// restore; so does the supervisor's death.
func hook(id string) error {
	var state specs.State
	if err := json.NewDecoder(os.Stdin).Decode(&state); err != nil {
		return fmt.Errorf("hook: state: %w", err)
	}
	c := container{run: DefaultRunDir, id: id}
	if err := c.ask(message{Command: "hook", Pid: state.Pid}); err != nil {
		return fmt.Errorf("hook: not released: %w", err)
	}
	return nil
}

// No restore is under way (any more).
var (
	errNoSupervisor   = errors.New("no supervisor")
	errSupervisorDied = errors.New("the supervisor of the restore died")
)

// ask sends one message to the container's supervisor and waits for the answer. The supervisor bounds the wait.
func (c container) ask(m message) error {
	conn, err := net.Dial("unix", c.path(socketName))
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSupervisor, err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(m); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return fmt.Errorf("%w: %w", errSupervisorDied, err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}
