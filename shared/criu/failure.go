package criu

// Failure explains why CRIU refused to freeze or restore a process.
type Failure struct {
	Line    string `json:"line"`              // CRIU's own first error line, without time stamp
	Meaning string `json:"meaning,omitempty"` // what it means, in one sentence
	Remedy  string `json:"remedy,omitempty"`  // what to set or do, in one sentence
}

// Error renders the failure as one line: what it means, what to do, and CRIU's words.
func (f *Failure) Error() string {
	switch {
	case f.Meaning == "":
		return "CRIU: " + f.Line
	case f.Remedy == "":
		return f.Meaning + " (CRIU: " + f.Line + ")"
	default:
		return f.Meaning + ": " + f.Remedy + " (CRIU: " + f.Line + ")"
	}
}
