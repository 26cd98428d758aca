package criu

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Phase is a part of a restore, in the time of CRIU's log, which begins with CRIU.
type Phase struct {
	Name       string
	Start, End time.Duration
}

// In these phases, CRIU has told runc how far it is, and waits until it may go on.
const (
	PhaseForked   = "held when forked"   // the first task is there, and nothing else
	PhaseRestored = "held when restored" // everything is there, and nothing has run
)

// restorePhases are the phases of a restore in their order, each with the message of CRIU 4.2 that it begins with. Where
// several processes are restored, the first of them tells.
var restorePhases = []struct{ name, message string }{
	{"images", ""},
	{"fork", "Running pre-restore scripts"},
	{PhaseForked, "Running setup-namespaces scripts"},
	{"cgroups", "cg: Move into "},
	{"namespaces", "Restoring namespaces "},
	{"mounts", "mnt: Restoring mount namespace"},
	{"files", "Running post-setup-namespaces scripts"},
	{"memory", "Restore via sigreturn"},
	{"clean up", "Running post-restore scripts"},
	{PhaseRestored, "Running pre-resume scripts"},
	{"resume", "Restore finished successfully"},
}

// logLine matches a line that bears a time, after which a process may be named, as in "(00.089632)      1: Restore via
// sigreturn" and "(00.190110) pie: 1:    `- skip pagemap".
var logLine = regexp.MustCompile(`^\((\d+)\.(\d{6})\)\s*(?:pie: )?(?:\d+: )?(.*)`)

// RestorePhases cuts the log of a restore into phases, as far as the restore came. One that the log says nothing of is
// missing, and its time belongs to the one before.
func RestorePhases(log io.Reader) []Phase {
	lines := bufio.NewReader(log)
	var phases []Phase
	var now time.Duration
	next := 0 // of restorePhases
	for {
		// A line that can't be read to its end is the last one, and still worth a look.
		line, err := lines.ReadString('\n')
		if m := logLine.FindStringSubmatch(line); m != nil {
			now = max(now, logTime(m[1], m[2])) // processes write on their own, and not quite in order
			for i, p := range restorePhases[next:] {
				if strings.HasPrefix(m[3], p.message) {
					phases = begin(phases, p.name, now)
					next += i + 1
					break
				}
			}
		}
		if err != nil {
			break
		}
	}
	return end(phases, now)
}

func begin(phases []Phase, name string, at time.Duration) []Phase {
	return append(end(phases, at), Phase{Name: name, Start: at})
}

// end ends the last phase.
func end(phases []Phase, at time.Duration) []Phase {
	if n := len(phases); n > 0 {
		phases[n-1].End = at
	}
	return phases
}

func logTime(seconds, micros string) time.Duration {
	s, _ := strconv.Atoi(seconds) // digits
	us, _ := strconv.Atoi(micros)
	return time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond
}
