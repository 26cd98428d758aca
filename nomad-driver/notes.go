package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/owned"
)

// notesDir is where the driver keeps what it has to know of containers and no task may change. It lasts as long as they do, over
// restarts of the agent and reboots.
const notesDir = "/var/lib/criu-docker/nomad"

// notes are those on the containers of one engine.
type notes struct{ engine string }

func notesOf(eng *engine.Engine) notes {
	sum := sha256.Sum256([]byte(eng.Client.DaemonHost()))
	return notes{hex.EncodeToString(sum[:8])}
}

var notesKind = owned.Kind{Name: "nomad", Version: 1}

// Directories of notes, each with files called like containers.
const (
	logNotes     = "logs"     // how far the forwarder of a task's output got
	networkNotes = "networks" // directory of the allocation whose group is in that network
	dnsNotes     = "dns"      // a directory for the group's resolv.conf
)

var containerIDs = regexp.MustCompile(`^[0-9a-f]{64}$`)

// file is the file for a note on a container.
func (n notes) file(kind, containerID string) (string, error) {
	if !containerIDs.MatchString(containerID) {
		return "", fmt.Errorf("container %q: that is not a container's id", containerID)
	}
	own, err := notesKind.Make(notesDir)
	if err != nil {
		return "", err
	}
	dir, err := own.Sub(n.engine, kind)
	return filepath.Join(dir, containerID), err
}

// noteNetwork notes which allocation's group is in the network of a container.
func (n notes) noteNetwork(containerID, allocDir string) error {
	file, err := n.file(networkNotes, containerID)
	if err == nil {
		err = os.WriteFile(file, []byte(allocDir), owned.FileMode)
	}
	if err != nil {
		return fmt.Errorf("note on network %.12s: %w", containerID, err)
	}
	return nil
}

// network returns the directory of the allocation whose group is in the network of a container; "" if that is not known.
func (n notes) network(containerID string) (string, error) {
	file, err := n.file(networkNotes, containerID)
	if err != nil {
		return "", err
	}
	dir, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(dir)), err
}

// forget removes all notes on a container that is gone.
func (n notes) forget(containerID string) error {
	var errs []error
	for _, kind := range []string{logNotes, networkNotes, dnsNotes} {
		file, err := n.file(kind, containerID)
		if err == nil {
			err = os.RemoveAll(file)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// containers returns the ids of the containers that there are notes on.
func (n notes) containers() (map[string]bool, error) {
	own, err := notesKind.Open(notesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	ids := map[string]bool{}
	for kind, list := range map[string]func(string, *regexp.Regexp) ([]string, error){
		logNotes: own.Files, networkNotes: own.Files, dnsNotes: own.Dirs,
	} {
		var names []string
		if err == nil {
			names, err = list(filepath.Join(n.engine, kind), containerIDs)
		}
		for _, id := range names {
			ids[id] = true
		}
	}
	return ids, err
}
