package ociruntime

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShimName is the other name of the runtime's binary. Under this name it stands before CRIU on the PATH of a runc that
// restores a clone: it hands runc's connection to the supervisor, takes another one for it, and becomes CRIU. From then on
// the supervisor sits between the two.
const ShimName = "criu"

// supervisorEnv tells the shim where the supervisor listens.
const supervisorEnv = "CRIU_DOCKER_SUPERVISOR"

// shimDir holds the shim, and nothing else.
func (d RunDir) shimDir() string { return filepath.Join(string(d), shimsDir) }

// installShim puts a link to self where runc will find it before CRIU.
func (d RunDir) installShim(self string) error {
	link := filepath.Join(d.shimDir(), ShimName)
	if target, err := os.Readlink(link); err == nil && target == self {
		return nil
	}
	if err := d.makeSub(shimsDir); err != nil {
		return fmt.Errorf("shim of CRIU: %w", err)
	}
	temporary := fmt.Sprintf("%s.%d", link, os.Getpid()) // several supervisors may do this at once
	if err := os.Symlink(self, temporary); err != nil {
		return fmt.Errorf("shim of CRIU: %w", err)
	}
	if err := os.Rename(temporary, link); err != nil {
		return fmt.Errorf("shim of CRIU: %w", err)
	}
	return nil
}

// shimEnviron is the environment of a runc that is to find the shim. It lives for one restore, in which collecting garbage
// would be in vain.
func (c container) shimEnviron() []string {
	path := c.run.shimDir() + string(os.PathListSeparator) + os.Getenv("PATH")
	return append(os.Environ(), "PATH="+path, supervisorEnv+"="+c.path(socketName), "GOGC=off")
}

// shim becomes CRIU; it returns if that fails, or if there is nothing to do for a CRIU. args are as in os.Args.
func shim(args []string) error {
	path, err := realCRIU()
	if err != nil {
		return err
	}
	// `criu swrk FD` is a CRIU that gets its orders over the descriptor.
	if socket := os.Getenv(supervisorEnv); socket != "" && len(args) == 3 && args[1] == "swrk" {
		fd, err := strconv.Atoi(args[2])
		if err != nil {
			return fmt.Errorf("criu swrk %q: want a descriptor", args[2])
		}
		a, err := ask(socket, message{Command: "criu", Pid: os.Getpid()}, fd)
		if err != nil {
			return err
		}
		if a.Served {
			return nil
		}
		if err := unix.Dup3(a.socket, fd, 0); err != nil {
			return fmt.Errorf("connection of CRIU: %w", err)
		}
	}
	return fmt.Errorf("exec %s: %w", path, syscall.Exec(path, args, os.Environ()))
}

// realCRIU finds the criu on the PATH that is not the shim.
func realCRIU() (string, error) {
	shim := RunDir(DefaultRunDir).shimDir()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == shim || dir == "" {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, "criu")); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("criu is not on PATH (%s): install it", strings.TrimPrefix(os.Getenv("PATH"), shim+string(os.PathListSeparator)))
}
