package main

import (
	"sync"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"github.com/criu-docker/criu-docker/shared/restore"
)

// taskHandleVersion is the version of taskState that this driver writes and reads.
const taskHandleVersion = 1

// taskState is what Nomad keeps of a task for RecoverTask.
type taskState struct {
	ContainerID string                 `codec:"container_id"`
	StartedAt   time.Time              `codec:"started_at"`
	Start       restore.Start          `codec:"start"`
	Ref         string                 `codec:"ref"`
	Reason      string                 `codec:"reason"`
	TTY         bool                   `codec:"tty"`
	Network     *drivers.DriverNetwork `codec:"network"`
}

// taskStore holds the handles of the tasks that this driver runs, by task id.
type taskStore struct {
	mu    sync.RWMutex
	tasks map[string]*taskHandle
}

func newTaskStore() *taskStore { return &taskStore{tasks: map[string]*taskHandle{}} }

func (s *taskStore) get(id string) (*taskHandle, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h, ok := s.tasks[id]
	return h, ok
}

func (s *taskStore) set(id string, h *taskHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[id] = h
}

func (s *taskStore) delete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, id)
}

// containers returns the ids of the containers that belong to a task.
func (s *taskStore) containers() map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := make(map[string]bool, len(s.tasks))
	for _, h := range s.tasks {
		ids[h.state.ContainerID] = true
	}
	return ids
}
