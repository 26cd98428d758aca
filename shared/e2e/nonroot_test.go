package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

// The app counts, in a file of its own that it holds open and in one that it makes anew each time.
const owner = `
umask 027; cd /data; echo kept > kept; exec 5>>log
n=0; while :; do n=$((n+1)); echo $n; echo $n >&5; echo $n > now && mv now last; sleep 0.05; done`

// TestProcessesThatAreNotRoot: most images in production have a user, and run without root's capabilities. What such a
// process is and may is in the clone as it is after a cold boot.
func TestProcessesThatAreNotRoot(t *testing.T) {
	l := newLab(t)
	owned := l.imageOfUser("1000:1000")
	for _, test := range []struct {
		name string
		edit func(*engine.Spec)
		uids []string // of the processes, in the order of identities
	}{
		{"the image's user", func(*engine.Spec) {}, []string{"1000"}},
		{"another group and further ones", func(s *engine.Spec) {
			s.Config.User, s.Host.GroupAdd = "1000:2000", []string{"3000", "44"}
		}, []string{"1000"}},
		{"no capabilities", func(s *engine.Spec) {
			s.Host.CapDrop, s.Host.SecurityOpt = []string{"ALL"}, []string{"no-new-privileges"}
		}, []string{"1000"}},
		{"root without capabilities", func(s *engine.Spec) {
			s.Config.User, s.Host.CapDrop = "0:1000", []string{"ALL"}
			s.Config.Entrypoint[3] = `touch /data/theirs 2>/dev/null && exit 1;` + strings.Replace(owner, "/data", "/tmp", 1)
		}, []string{"0"}},
		{"limits", func(s *engine.Spec) {
			s.Host.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 100, Hard: 200}, {Name: "core"}, {Name: "nproc", Soft: 5000, Hard: 6000}} // of all containers of this user
		}, []string{"1000"}},
		{"a server that gives root up", func(s *engine.Spec) {
			s.Config.User = "0"
			s.Config.Entrypoint[3] = `/bin/busybox httpd -f -u 65534:65534 -p 80 -h /www &
until grep -q Uid:.65534 /proc/$!/status; do sleep 0.05; done` + owner
		}, []string{"65534", "0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.within(t)
			spec := func() engine.Spec {
				s := l.spec(owned, owner)
				test.edit(&s)
				return s
			}
			l.build(spec(), counted)
			cold := l.run(spec(), restore.PolicyNever)
			l.firstCount(cold.ContainerID) // from here on it is what it will be
			want := l.identities(cold.ContainerID)
			require.Len(t, want, len(test.uids))
			for i, uid := range test.uids {
				require.Contains(t, want[i], "Uid:\t"+uid+"\t")
			}

			for _, memory := range []restore.Memory{restore.MemoryEager, restore.MemoryLazy} {
				l.memory = memory
				r := l.run(spec(), restore.PolicyAlways)
				require.Equal(t, want, l.identities(r.ContainerID), memory)
				first := l.firstCount(r.ContainerID)
				require.Greater(t, first, 1, "a cold boot would have counted from 1")
				l.eventually(func() bool { return l.lastCount(r.ContainerID) > first }, "it counts on")
			}
		})
	}

	t.Run("files", func(t *testing.T) {
		l.within(t)
		r := l.run(l.spec(owned, owner), restore.PolicyAlways)
		const files = "/bin/busybox stat -c '%n %u:%g %a' /data /data/kept /data/log /data/theirs"
		want := "/data 1000:1000 755\n/data/kept 1000:1000 640\n/data/log 1000:1000 640\n/data/theirs 1000:1000 600"
		require.Equal(t, want, l.sh(r.ContainerID, files))
		before := l.sh(r.ContainerID, "cat /data/last")
		l.eventually(func() bool { return l.sh(r.ContainerID, "cat /data/last") != before }, "it makes files")
		require.NoError(t, l.eng.Client.ContainerRestart(l.ctx, r.ContainerID, container.StopOptions{Signal: "KILL"}))
		require.Equal(t, want, l.sh(r.ContainerID, files))
		require.NotContains(t, "\n"+l.logs(r.ContainerID)+"\n", "\n1\n", "a cold boot would have counted from 1")
	})
}

// within makes failures those of a subtest until that ends.
func (l *lab) within(t *testing.T) {
	outer := l.T
	l.T = t
	t.Cleanup(func() { l.T = outer })
}

// imageOfUser makes an image with a user that owns /data and a file in it; it is gone after the test.
func (l *lab) imageOfUser(user string) string {
	l.Helper()
	const name = "e2e-owned:lab"
	r := l.run(l.spec(tiny, "mkdir /data; echo theirs > /data/theirs; chmod 600 /data/theirs; /bin/busybox chown -R "+user+" /data; /bin/busybox chmod 1777 /tmp"),
		restore.PolicyNever)
	require.NoError(l, l.eng.WaitStopped(l.ctx, r.ContainerID))
	config := *l.inspect(r.ContainerID).Config
	config.User, config.Entrypoint, config.Cmd, config.Labels = user, nil, nil, nil
	_, err := l.eng.Client.ContainerCommit(l.ctx, r.ContainerID, container.CommitOptions{Reference: name, Config: &config})
	require.NoError(l, err)
	l.Cleanup(func() {
		_, err := l.eng.Client.ImageRemove(l.ctx, name, image.RemoveOptions{Force: true})
		require.NoError(l, err)
	})
	return name
}

// identities says what a container's processes are and may: all that /proc says of their users, groups, capabilities,
// umasks, seccomp and limits. What is the same for several processes is in it once, since some come and go.
func (l *lab) identities(id string) []string {
	l.Helper()
	var all []string
	l.eventually(func() bool {
		all = nil
		top, err := l.eng.Client.ContainerTop(l.ctx, id, []string{"-o", "pid"})
		require.NoError(l, err)
		for _, process := range top.Processes {
			identity, err := identityOf(process[0])
			if err != nil {
				return false // it has ended meanwhile
			}
			all = append(all, identity)
		}
		slices.Sort(all)
		all = slices.Compact(all)
		return true
	}, "the processes can be read")
	return all
}

func identityOf(pid string) (string, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%s/status", pid))
	if err != nil {
		return "", err
	}
	if !strings.Contains(string(status), "\nUmask:") {
		return "", errors.New("it is ending, and has no umask any more")
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%s/limits", pid))
	if err != nil {
		return "", err
	}
	var identity strings.Builder
	for line := range strings.Lines(string(status)) {
		key, _, _ := strings.Cut(line, ":")
		switch key {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask":
			identity.WriteString(line)
		}
	}
	return identity.String() + string(limits), nil
}
