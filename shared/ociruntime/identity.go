package ociruntime

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// IdentityName is the file, in the root directory of every container of ours, that tells the app what it is: there before its first
// instruction, and written anew at each start.
const IdentityName = ".criu-docker"

// identitySize is the size of the file in bytes, whatever is in it: CRIU restores no file, held open by the app, that has another
// size than it had.
const identitySize = 1024

// Origin is how a container has come about.
type Origin string

// What a container's processes were made from.
const (
	FromSnapshot Origin = "hot"
	FromBoot     Origin = "cold"
	OfDonor      Origin = "donor" // a boot, but not for long
)

// Identity is the content of the file: JSON, and spaces up to 1024 bytes. It is readable by the container's user only, since what an
// app derives from Random must be known to no other user.
type Identity struct {
	// Generation is a UUID that no other start has.
	Generation string `json:"generation"`
	Start      Origin `json:"start"`
	// Snapshot is the digest of the snapshot's manifest, and Frozen is when it was made; hot only.
	Snapshot string     `json:"snapshot,omitempty"`
	Frozen   *time.Time `json:"frozen,omitempty"`
	Started  time.Time  `json:"started"`
	Hostname string     `json:"hostname"`
	// Random are 64 random bytes, in hex.
	Random string `json:"random"`
}

// newIdentity returns one for the container of a bundle.
func (b *bundle) newIdentity(origin Origin) (Identity, error) {
	i := Identity{Start: origin, Started: time.Now().UTC(), Hostname: b.spec.Hostname}
	if i.Hostname == "" { // the host's
		name, err := os.Hostname()
		if err != nil {
			return i, err
		}
		i.Hostname = name
	}
	var random [64]byte
	var uuid [16]byte
	_, _ = rand.Read(random[:]) // never fails
	_, _ = rand.Read(uuid[:])
	uuid[6], uuid[8] = uuid[6]&0x0f|0x40, uuid[8]&0x3f|0x80 // RFC 9562, version 4
	i.Generation = fmt.Sprintf("%x-%x-%x-%x-%x", uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:])
	i.Random = hex.EncodeToString(random[:])
	return i, nil
}

// environ is the identity as variables.
func (i Identity) environ() []string {
	env := []string{
		"CRIU_DOCKER_GENERATION=" + i.Generation,
		"CRIU_DOCKER_START=" + string(i.Start),
		"CRIU_DOCKER_SNAPSHOT=" + i.Snapshot,
		"CRIU_DOCKER_STARTED=" + i.Started.Format(time.RFC3339Nano),
		"CRIU_DOCKER_HOSTNAME=" + i.Hostname,
		"CRIU_DOCKER_RANDOM=" + i.Random,
	}
	if i.Frozen != nil {
		env = append(env, "CRIU_DOCKER_FROZEN="+i.Frozen.Format(time.RFC3339Nano))
	}
	return env
}

// writeIdentity puts an identity into the container's layer, in the place of whatever an image or an earlier start has left there.
// Nothing runs in the container yet.
func (b *bundle) writeIdentity(i Identity) error {
	fail := func(err error) error { return fmt.Errorf("identity /%s: %w", IdentityName, err) }
	content, err := json.Marshal(i)
	if err != nil {
		return fail(err)
	}
	if len(content) > identitySize {
		return fail(fmt.Errorf("%d bytes, and %d are its size", len(content), identitySize))
	}
	content = append(content, bytes.Repeat([]byte(" "), identitySize-len(content))...)
	root, err := unix.Open(b.rootfs(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(root)
	if err := unix.Unlinkat(root, IdentityName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail(err)
	}
	fd, err := unix.Openat(root, IdentityName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o400)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), IdentityName)
	_, err = f.Write(content)
	if b.spec.Process != nil && err == nil {
		user := b.spec.Process.User
		err = f.Chown(int(user.UID), int(user.GID))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// identify gives the container of a bundle that is booted an identity. It boots without one where that fails, and its engine's
// log says so.
func (c container) identify(b *bundle, origin Origin) {
	i, err := b.newIdentity(origin)
	if err == nil {
		err = b.writeIdentity(i)
	}
	if err != nil {
		warn(b.dir, c.id, err.Error())
	}
}
