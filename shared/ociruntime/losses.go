package ociruntime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// A loss is noted by snapshot until it has been restored eagerly, or the machine is booted again: what keeps the memory of one
// clone from coming (a full disk, a store without one of the frames) keeps that of the next one too.

// noteLoss notes why a clone of a snapshot was lost.
func (d RunDir) noteLoss(snapshot, reason string) error {
	file, err := d.lossFile(snapshot)
	if err != nil {
		return err
	}
	if err := d.makeSub(lossesDir); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(reason), 0o600)
}

// Loss returns why the last clone of a snapshot was lost, unless that is settled; "" if none was.
func (d RunDir) Loss(snapshot digest.Digest) (string, error) {
	file, err := d.lossFile(snapshot.String())
	if err != nil {
		return "", err
	}
	reason, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return string(reason), nil
}

// SettleLoss forgets it: a snapshot was restored eagerly.
func (d RunDir) SettleLoss(snapshot digest.Digest) error {
	file, err := d.lossFile(snapshot.String())
	if err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d RunDir) lossFile(snapshot string) (string, error) {
	parsed, err := digest.Parse(snapshot)
	if err != nil {
		return "", fmt.Errorf("snapshot %q: %w", snapshot, err)
	}
	return filepath.Join(string(d), lossesDir, parsed.Encoded()), nil
}
