package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Attendance is for one start of a clone that its caller sees through: it has its own deadline, it has waited for its turn on
// this machine, and it reads the report when the start fails. An engine that starts a clone again does nothing of it.
type Attendance struct {
	// Timeout bounds the restore; 0 means that of the request.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
}

// Attend announces that the caller is about to start a container.
func (d RunDir) Attend(containerID string, a Attendance) error {
	err := d.makeSub(attendedDir)
	if err == nil {
		err = writeJSON(d.attendanceFile(containerID), a)
	}
	if err != nil {
		return fmt.Errorf("start of container %.12s: %w", containerID, err)
	}
	return nil
}

// attendance returns what was announced for this start, which is so only once; false if nothing was.
func (c container) attendance() (a Attendance, attended bool, err error) {
	file := c.run.attendanceFile(c.id)
	if err := readJSON(file, &a); errors.Is(err, fs.ErrNotExist) {
		return a, false, nil
	} else if err != nil {
		return a, false, err
	}
	return a, true, os.Remove(file)
}

func (d RunDir) attendanceFile(id string) string {
	return filepath.Join(string(d), attendedDir, id+".json")
}
