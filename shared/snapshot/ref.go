package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Ref is the name of a snapshot in a store: which image, started how, for which architecture.
type Ref struct {
	Image       digest.Digest // image id
	Fingerprint string        // RunConfig.Fingerprint
	Arch        string        // GOARCH
}

// String returns the form that is shown to users and used as key in stores: IMAGEHEX/FINGERPRINT/ARCH.
func (r Ref) String() string {
	return r.Image.Encoded() + "/" + r.Fingerprint + "/" + r.Arch
}

// ParseRef is the inverse of String.
func ParseRef(s string) (Ref, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || parts[1] == "" || parts[2] == "" {
		return Ref{}, fmt.Errorf("snapshot ref %q: want IMAGEHEX/FINGERPRINT/ARCH, as `criu-docker ls` prints it", s)
	}
	image := digest.NewDigestFromEncoded(digest.SHA256, parts[0])
	if err := image.Validate(); err != nil {
		return Ref{}, fmt.Errorf("snapshot ref %q: image part: %w", s, err)
	}
	return Ref{Image: image, Fingerprint: parts[1], Arch: parts[2]}, nil
}

// Fingerprint condenses a run configuration to 16 hex digits. Equal configurations have equal fingerprints;
// ports are informative and take no part.
func (c RunConfig) Fingerprint() string {
	c.Ports = nil
	b, err := json.Marshal(c) // maps are written with sorted keys
	if err != nil {
		panic(fmt.Sprintf("snapshot: run configuration cannot be encoded: %v", err)) // strings, bools and maps of them only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// HashEnv condenses the value of an environment variable to 16 hex digits, so that snapshots can be compared
// without carrying secrets. The image and the name take part, so that equal values are not recognisable as such.
func HashEnv(image digest.Digest, name, value string) string {
	sum := sha256.Sum256([]byte(image.String() + "\x00" + name + "\x00" + value))
	return hex.EncodeToString(sum[:8])
}

// PerAllocation reports whether an environment variable is set anew for every container by an orchestrator or the
// engine. Such variables take no part in a snapshot's identity; a clone reads their current values from a file.
func PerAllocation(name string) bool {
	switch name {
	case "HOSTNAME", "CONSUL_TOKEN", "CONSUL_HTTP_TOKEN", "VAULT_TOKEN":
		return true
	}
	return strings.HasPrefix(name, "NOMAD_")
}

// AllocationEnvFile is that file: in the directories local and secrets of a Nomad task.
const AllocationEnvFile = "criu-docker.env"
