package criu

import (
	"bufio"
	"io"
	"regexp"
	"strings"
)

// Failure explains why CRIU refused to freeze or restore a process.
type Failure struct {
	Line    string `json:"line,omitempty"`    // CRIU's own first error line, without time stamp; "" if CRIU was not asked
	Meaning string `json:"meaning,omitempty"` // what it means, in one sentence
	Remedy  string `json:"remedy,omitempty"`  // what to set or do, in one sentence
	// Passing is true if it was about a moment: another freeze of the same process, a little later, may succeed.
	Passing bool `json:"passing,omitempty"`
}

// Error renders the failure as one line: what it means, what to do, and CRIU's words.
func (f *Failure) Error() string {
	switch {
	case f.Line == "":
		return f.Meaning + ": " + f.Remedy
	case f.Meaning == "":
		return "CRIU: " + f.Line
	case f.Remedy == "":
		return f.Meaning + " (CRIU: " + f.Line + ")"
	default:
		return f.Meaning + ": " + f.Remedy + " (CRIU: " + f.Line + ")"
	}
}

// errorLine matches an error in a log of CRIU, after the time stamp and the pid that may stand before it, as in
// "(00.809912)     29: Error (criu/files.c:1196): Unable to open fd=30 id=0x4a".
var errorLine = regexp.MustCompile(`^(?:\([\d.]+\)\s*)?(?:pie:\s*)?(?:\d+:\s*)?(Error \([^)]+\): .*\S)\s*$`)

// socketLine matches what CRIU says of an internet socket before it restores it.
var socketLine = regexp.MustCompile(`inet:\s+Restore: family \S+\s+type (SOCK_\w+)\s.*\sstate (\w+)`)

// Diagnose reads the log of a dump or a restore and explains its first error; nil if it reports none. CRIU reports an
// error once in every function that it passes on its way up, so where the first line has no explanation but a later
// one has, the later one is returned.
func Diagnose(log io.Reader) *Failure {
	lines := bufio.NewReader(log)
	var first, socket string
	for {
		// A line that can't be read to its end is the last one, and still worth a look.
		line, err := lines.ReadString('\n')
		if m := socketLine.FindStringSubmatch(line); m != nil {
			socket = "[" + m[1] + " " + m[2] + "] "
		}
		if m := errorLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil && !harmless.MatchString(m[1]) {
			if f := explain(causes(), socket, m[1]); f != nil {
				return f
			}
			if first == "" {
				first = m[1]
			}
		}
		if err != nil {
			break
		}
	}
	if first == "" {
		return nil
	}
	if f := explain(symptoms(), "", first); f != nil {
		return f
	}
	return &Failure{Line: first}
}
