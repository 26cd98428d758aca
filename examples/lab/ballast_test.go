package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The lab may run without its source: what is embedded must be enough, and must give the same image every time.
func TestBallastIsBuiltFromWhatIsEmbedded(t *testing.T) {
	var programs [2]string
	for i := range programs {
		dir := t.TempDir()
		if err := ballastImage().Build(t.Context(), nil, dir); err != nil {
			t.Fatal(err)
		}
		program := filepath.Join(dir, "ballast")
		b, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		programs[i] = string(b)
		if out, err := exec.Command(program).CombinedOutput(); err == nil || !strings.Contains(string(out), "how many MiB") {
			t.Errorf("without an argument: %v, %s", err, out)
		}
	}
	if programs[0] != programs[1] {
		t.Error("two builds differ")
	}
}
