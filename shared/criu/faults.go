package criu

import "fmt"

// LastSpinning is the newest CRIU after whose restore a reader of a FIFO without writers polls without end. It is cured in CRIU's
// development branch, as the next one is.
const LastSpinning = "4.2.1"

// lastSearching is the newest CRIU that can't open by their handles what an app watches on overlayfs.
const lastSearching = "4.2.1"

// Faults returns what a version of CRIU gets wrong by itself and later versions don't, in one sentence each.
func Faults(version string) (faults []string) {
	for _, f := range []struct{ last, what string }{
		{lastSearching, "a freeze searches the whole container for what the app watches (inotify), all of which must still have a name"},
		{LastSpinning, "a FIFO without writers is restored so that its readers poll without end"},
	} {
		if !Older(f.last, version) {
			faults = append(faults, fmt.Sprintf("%s; a CRIU newer than %s cures it", f.what, f.last))
		}
	}
	return faults
}
