package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/capability"
)

// TestStandInIsThereWhereTheCapabilityIsMissing: what it does, the tests of processes that aren't root show (shared/e2e).
func TestStandInIsThereWhereTheCapabilityIsMissing(t *testing.T) {
	l := newTestLab(t)
	l.up(t)
	effective := strings.TrimSpace(l.must(t, "exec", "--", "awk", "/^CapEff/ {print $2}", "/proc/self/status"))
	capabilities, err := strconv.ParseUint(effective, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	missing := capabilities&(1<<capability.CAP_SYS_RESOURCE) == 0
	if criu := l.criu(t); (criu == standInPath) != missing {
		t.Errorf("CAP_SYS_RESOURCE is missing: %v, and CRIU is %s", missing, criu)
	}
	if err := l.node("node1").useStandIn(""); err != nil { // as on a machine that has it
		t.Fatal(err)
	}
	if criu := l.criu(t); criu == standInPath {
		t.Errorf("without a stand-in CRIU is %s", criu)
	}
}

// criu is the one that a node's runc finds.
func (l *testLab) criu(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(l.must(t, "exec", "--", "sh", "-c", "command -v criu"))
}
