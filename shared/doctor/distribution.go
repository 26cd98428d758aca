package doctor

import (
	"os"
	"strings"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// osReleases are the files that name the distribution, the first that is there.
var osReleases = []string{"/etc/os-release", "/usr/lib/os-release"}

// installCRIU says where this machine's distribution has a CRIU that is new enough.
func installCRIU() string {
	for _, path := range osReleases {
		if b, err := os.ReadFile(path); err == nil {
			return installCRIUOn(string(b))
		}
	}
	return installCRIUOn("")
}

const buildCRIU = "build it from the source package of Debian forky, with examples/criu/build.sh (see docs/install.md)"

// installCRIUOn knows what the distributions had in November 2026.
func installCRIUOn(osRelease string) string {
	of := map[string]string{}
	for line := range strings.Lines(osRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		of[key] = strings.Trim(value, `"'`)
	}
	what := "install CRIU " + criu.MinVersion + " or later: "
	switch {
	case of["ID"] == "debian" && (of["VERSION_ID"] == "" || !criu.Older(of["VERSION_ID"], "14")):
		return what + "apt install criu" // forky is 14, and has no number before its release
	case of["ID"] == "debian" || of["ID"] == "ubuntu" || strings.Contains(of["ID_LIKE"], "debian"):
		return what + of["PRETTY_NAME"] + " has an older one or none; " + buildCRIU
	case of["ID"] == "fedora" || strings.Contains(of["ID_LIKE"], "fedora"):
		return what + "dnf install criu, if dnf info criu shows that version; else see https://criu.org/Installation"
	case of["ID"] == "arch":
		return what + "pacman -S criu"
	}
	return what + "see https://criu.org/Installation"
}
