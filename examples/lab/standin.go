package main

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/sys/capability"
)

// limitsLibrary is the source of the library that stands in for CAP_SYS_RESOURCE below CRIU.
//
//go:embed standin/limits.c
var limitsLibrary string

// standInPath is before the distribution's CRIU on the PATH of a node.
const standInPath = "/usr/local/sbin/criu"

// buildStandIn makes criu, the node's with the library as one more that it needs, and the library beside it. The compiler
// goes into an overlay over the node's root file system, so that the host needs none and the node gets none; like
// debootstrap, apt doesn't mind that a mirror stands still.
const buildStandIn = `
cd "$2"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$1,upperdir=upper,workdir=work" root
cp limits.c root/tmp/
chroot root sh -ec '
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o Acquire::Check-Valid-Until=false update
apt-get -q -y --no-install-recommends install gcc libc6-dev patchelf
cd /tmp
gcc -O2 -Wall -Werror -shared -fPIC -o criu-limits.so limits.c
cp /usr/sbin/criu .
patchelf --add-needed criu-limits.so --set-rpath "\$ORIGIN" criu
'
cp root/tmp/criu root/tmp/criu-limits.so .
umount root
rm -r upper work root
`

// standIn returns the CRIU for nodes of a machine whose root lacks CAP_SYS_RESOURCE, and "" on others. With it, CRIU can
// freeze processes that aren't root, as it can in production.
func (l *Lab) standIn(ctx context.Context, rootfs string) (string, error) {
	missing, err := lacks(capability.CAP_SYS_RESOURCE)
	if err != nil || !missing {
		return "", err
	}
	dir, err := l.cached(ctx, "criu-standin-"+hashOf([]any{nodeRecipe().keyed(), limitsLibrary, buildStandIn}), func(tmp string) error {
		slog.Info("this machine's root lacks CAP_SYS_RESOURCE: building a stand-in for it, once", "dir", tmp)
		start := time.Now()
		if err := writeFiles(map[string]string{filepath.Join(tmp, "limits.c"): limitsLibrary}); err != nil {
			return err
		}
		log := tmp + ".log"
		if err := unshareLogged(ctx, log, "--mount", "--pid", "--fork", "--propagation", "private", "--",
			"sh", "-ec", buildStandIn, "sh", rootfs, tmp); err != nil {
			return err
		}
		slog.Info("built", "dir", tmp, "took", time.Since(start).Round(time.Second))
		return os.Remove(log)
	})
	if err != nil {
		return "", fmt.Errorf("stand-in for CAP_SYS_RESOURCE: %w", err)
	}
	return filepath.Join(dir, "criu"), nil
}

// lacks reports whether this process, and so every one of a node, is without the capability.
func lacks(c capability.Cap) (bool, error) {
	own, err := capability.NewPid2(0)
	if err != nil {
		return false, fmt.Errorf("own capabilities: %w", err)
	}
	if err := own.Load(); err != nil {
		return false, fmt.Errorf("own capabilities: %w", err)
	}
	return !own.Get(capability.EFFECTIVE, c), nil
}

// useStandIn puts the CRIU of standIn before the distribution's; with "" it sees to it that there is none.
func (n *Node) useStandIn(criu string) error {
	if criu != "" {
		return n.link(hostRoot+criu, standInPath)
	}
	return n.unlink(standInPath)
}
