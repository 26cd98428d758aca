package criu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	core "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
)

// loadedProfiles is where the kernel lists the AppArmor profiles that it knows.
var loadedProfiles = "/sys/kernel/security/apparmor/profiles"

// Profiles returns the names of the AppArmor profiles that the processes in a checkpoint were in, sorted; none if no profile held them.
func Profiles(dir string) ([]string, error) {
	images := &imageDir{path: dir}
	tasks, err := images.tasks()
	if err != nil {
		return nil, err
	}
	var names []string
	for pid := range tasks {
		c, err := decodeOne(images, fmt.Sprintf("core-%d.img", pid), &core.CoreEntry{})
		if err != nil {
			return nil, err
		}
		if name := c.GetThreadCore().GetCreds().GetLsmProfile(); name != "" && name != "unconfined" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// checkProfiles reports the first profile that this host's kernel doesn't know. CRIU would find out when everything else is restored.
func checkProfiles(frozen []string) error {
	if len(frozen) == 0 {
		return nil
	}
	b, err := os.ReadFile(loadedProfiles)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: the donor ran in the AppArmor profile %s, and this host has no AppArmor: build on a host without it, or with --security-opt apparmor=unconfined", ErrUnfit, frozen[0])
	}
	if err != nil {
		return fmt.Errorf("AppArmor profiles: %w", err)
	}
	for _, name := range frozen {
		if !slices.ContainsFunc(strings.Split(string(b), "\n"), func(line string) bool { return strings.HasPrefix(line, name+" (") }) {
			return fmt.Errorf("%w: the donor ran in the AppArmor profile %s, which is not loaded on this host: load it (dockerd loads docker-default when it starts)", ErrUnfit, name)
		}
	}
	return nil
}
