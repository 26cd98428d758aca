package ociruntime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// createDonor lets runc create the container, with its network namespace by path, and notes where its layer is.
func (c container) createDonor(inv invocation, _ Request) error {
	b, err := loadBundle(inv.bundle)
	if err != nil {
		return err
	}
	if err := b.checkDonor(); err != nil {
		return err
	}
	if err := c.reset(); err != nil {
		return err
	}
	upper, err := upperDir(b.rootfs())
	if err != nil {
		return err
	}
	if err := c.writeReport(Report{UpperDir: upper, GuardRegions: !refuseGuards(b.spec.Linux.Seccomp)}); err != nil {
		return err
	}
	if err := c.noteCgroup(b, inv); err != nil {
		return err
	}
	if err := c.givePath(b); err != nil {
		return err
	}
	c.identify(b, OfDonor)
	b.annotate(criuConfigAnnotation, c.path(confName))
	if err := b.save(); err != nil {
		return errors.Join(err, c.removeNetns())
	}
	return execRunc(inv.args)
}

// checkpoint freezes a donor to the place and with the options that its request names, instead of the engine's: the
// memory image is written once. The engine finds its own directory empty and is content.
func (c container) checkpoint(inv invocation, req Request) error {
	if req.Kind != KindDonor {
		return fmt.Errorf("container %.12s is a clone: freeze the donor of another snapshot instead", c.id)
	}
	if err := c.run.makeSub(containersDir, c.id, workName); err != nil {
		return err
	}
	if err := c.awaitMoment(); err != nil {
		return err
	}
	// CRIU gives up 10 s after it has begun to stop the tasks, which a busy machine can take for a few. We do when nothing moves any
	// more, and say more about it.
	conf := req.Options.ConfigFile() + fmt.Sprintf("timeout %d\n", int((2*freezeStall).Seconds()))
	state, err := runcState(inv)
	if err != nil {
		return err
	}
	watched, err := c.watchOptions(state.Pid)
	if err != nil {
		return err
	}
	conf += watched
	if req.Options.LinkRemap {
		if err := c.checkDeleted(state.Bundle); err != nil {
			return err
		}
	}
	if err := os.WriteFile(c.path(confName), []byte(conf), 0o600); err != nil {
		return err
	}
	args := append([]string{}, inv.global...)
	args = append(args, "checkpoint", "--image-path", req.CheckpointDir, "--work-path", c.path(workName))
	if inv.leaveRunning {
		args = append(args, "--leave-running")
	}
	roots, err := mountRoots(state)
	if err != nil {
		return err
	}
	defer closeAll(roots)
	if err := c.runCheckpoint(append(args, c.id), req.CheckpointDir); err != nil {
		return err
	}
	return c.keepFiles(req, roots)
}

// runState is what runc says of a container that runs.
type runState struct {
	Pid    int    `json:"pid"` // of its first process
	Bundle string `json:"bundle"`
}

func runcState(inv invocation) (state runState, err error) {
	cmd, err := runcCommand(append(append([]string{}, inv.global...), "state", inv.id)...)
	if err != nil {
		return state, err
	}
	out, err := cmd.Output()
	if err == nil {
		err = decodeJSON(out, &state)
	}
	if err != nil {
		return state, fmt.Errorf("runc state: %w", err)
	}
	return state, nil
}

func runcCommand(args ...string) (*exec.Cmd, error) {
	path, err := runcPath()
	if err != nil {
		return nil, err
	}
	return exec.Command(path, args...), nil
}

// upperDir returns the writable layer of the overlay file system that is mounted at rootfs.
func upperDir(rootfs string) (string, error) {
	rootfs, err := filepath.EvalSymlinks(rootfs)
	if err != nil {
		return "", fmt.Errorf("root file system: %w", err)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(rootfs))
	if err != nil {
		return "", fmt.Errorf("root file system %s: %w", rootfs, err)
	}
	for _, m := range mounts {
		if m.FSType != "overlay" {
			continue
		}
		for _, opt := range strings.Split(m.VFSOptions, ",") {
			if dir, ok := strings.CutPrefix(opt, "upperdir="); ok && filepath.IsAbs(dir) {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("root file system %s is not a writable overlayfs: use dockerd's overlay2 storage driver or "+
		"containerd's overlayfs snapshotter", rootfs)
}
