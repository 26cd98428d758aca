package criu

import (
	"fmt"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
)

// RearmTimers lets timers that repeat (timerfd) go on that had expired, unread, when they were frozen. The kernel sets such a timer anew
// when its expirations are read, and says until then that nothing is left of its time, by which CRIU takes it for one that is off.
func RearmTimers(imageDir string) error {
	path := filepath.Join(imageDir, filesImage)
	img, err := readImage(path, &fdinfo.FileEntry{})
	if err != nil {
		return fmt.Errorf("timers in %s: %w", path, err)
	}
	changed := false
	for _, e := range img.Entries {
		t := e.Message.(*fdinfo.FileEntry).GetTfd()
		if t == nil || t.GetVsec() != 0 || t.GetVnsec() != 0 || t.GetTicks() == 0 {
			continue
		}
		t.Vsec, t.Vnsec, changed = t.Isec, t.Insec, true
	}
	if !changed {
		return nil
	}
	if err := writeImage(path, img); err != nil {
		return fmt.Errorf("timers in %s: %w", path, err)
	}
	return nil
}
