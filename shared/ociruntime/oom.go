package ociruntime

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// setOOMScores gives the clone's processes the score that its configuration names, before any of them runs. CRIU brings back the
// donor's, unless that was 0: then a process keeps CRIU's, which is the engine's. What the app has set itself stays.
func (s *supervision) setOOMScores(configured *int) error {
	if configured == nil {
		return nil
	}
	inherited, err := oomScore("self")
	if err != nil {
		return err
	}
	pids, err := s.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		process := strconv.Itoa(pid)
		is, err := oomScore(process)
		if err == nil {
			if wanted := wantedOOMScore(is, inherited, s.request.OOMScore, *configured); wanted != is {
				err = os.WriteFile(oomScoreFile(process), []byte(strconv.Itoa(wanted)), 0)
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH): // one of CRIU's helpers, gone
		case err != nil:
			return fmt.Errorf("oom_score_adj = %d: %w", *configured, err)
		}
	}
	return nil
}

// wantedOOMScore is what a process of a clone is to have that has score `is` after CRIU, whose own is inherited.
func wantedOOMScore(is, inherited, donors, configured int) int {
	switch {
	case is == donors:
		return configured
	case is != inherited:
		return is // the app's own
	case donors == 0:
		return configured
	default:
		return 0 // the app's own as well: CRIU has not set it
	}
}

func oomScore(process string) (int, error) {
	b, err := os.ReadFile(oomScoreFile(process))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(b)))
}

func oomScoreFile(process string) string { return "/proc/" + process + "/oom_score_adj" }
