package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/volume"
	"github.com/stretchr/testify/require"

	"github.com/criu-docker/criu-docker/shared/build"
	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/engine"
	"github.com/criu-docker/criu-docker/shared/restore"
)

var update = flag.Bool("update", false, "write docs/what-is-the-clones.md instead of comparing it")

const clonesFile = "../../docs/what-is-the-clones.md"

// Every key of the engine's request is tried: what a container that boots has of it, a clone has as well, or there is no clone.
func TestWhatIsTheClones(t *testing.T) {
	requireEveryKey(t)
	l := newLab(t)
	world := newWorld(l)
	base := world.ask(l)
	built := world.build(l, base.Spec)
	host, err := criu.HostInfo(l.ctx)
	require.NoError(t, err)
	plain := l.lookOnce(base.Spec, restore.PolicyNever)
	requireEqualLooks(t, plain, l.lookOnce(base.Spec, restore.PolicyAlways))
	world.parent = path.Dir(strings.Split(strings.TrimSpace(strings.SplitN(plain["cgroup"], "\n", 2)[0]), ":")[2])

	groups := map[int][]key{}
	for _, k := range keys {
		switch {
		case k.set == nil:
			require.NotEmpty(t, k.remark, "%s: why it is not tried", k.name)
		case k.is == fit:
			t.Run(k.name, func(t *testing.T) {
				a := world.ask(l)
				k.set(a)
				img, err := l.eng.EnsureImage(l.ctx, a.Config.Image, engine.PullOptions{})
				require.NoError(t, err)
				a.arrange()
				run, err := engine.Effective(a.Spec, img)
				if err != nil {
					return // the reason of a cold boot
				}
				var misfit *restore.Misfit
				require.ErrorAs(t, restore.Fit(built.Config, img, run, host), &misfit)
			})
		default:
			groups[k.group] = append(groups[k.group], k)
		}
	}
	for i, group := range groups {
		t.Run(fmt.Sprint("group ", i), func(t *testing.T) {
			a := world.ask(l)
			for _, k := range group {
				k.set(a)
			}
			a.arrange()
			cold := l.lookOnce(a.Spec, restore.PolicyNever)
			for _, k := range group {
				shows := k.shows
				if _, known := plain[shows]; !known && k.instead != "" {
					shows = k.instead
				}
				if _, known := plain[shows]; known {
					require.NotEqual(t, plain[shows], cold[shows], "%s shows nothing", k.name)
				}
			}
			requireEqualLooks(t, cold, l.lookOnce(a.Spec, restore.PolicyAlways))
		})
	}
	for group := 1; group <= 2; group++ {
		t.Run(fmt.Sprint("alike ", group), func(t *testing.T) {
			a := world.ask(l)
			for _, k := range keys {
				if k.alike == group {
					k.set(a)
				}
			}
			a.arrange()
			world.build(l, a.Spec)
			requireEqualLooks(t, l.lookOnce(a.Spec, restore.PolicyNever), l.lookOnce(a.Spec, restore.PolicyAlways))
		})
	}
	if t.Failed() {
		return
	}
	if *update {
		require.NoError(t, os.WriteFile(clonesFile, []byte(page()), 0o644))
	}
	current, err := os.ReadFile(clonesFile)
	require.NoError(t, err)
	require.Equal(t, page(), string(current), "run this test with -update")
}

// lookOnce looks at a container that is gone afterwards.
func (l *lab) lookOnce(spec engine.Spec, policy restore.Policy) looks {
	l.Helper()
	r := l.run(spec, policy)
	defer func() { require.NoError(l, restore.Remove(context.Background(), l.eng, l.cache, r.ContainerID)) }()
	return l.look(r.ContainerID)
}

// world is what all containers of the test have in common.
type world struct {
	plain        string // directory
	volume       string
	disk, parent string
	port         int
}

func newWorld(l *lab) *world {
	w := &world{plain: l.dir, port: 28371} // on a file system that restricts nothing
	v, err := l.eng.Client.VolumeCreate(l.ctx, volume.CreateOptions{})
	require.NoError(l, err)
	l.Cleanup(func() {
		l.removeContainers()
		require.NoError(l, l.eng.Client.VolumeRemove(context.Background(), v.Name, true))
	})
	require.NoError(l, os.Mkdir(filepath.Join(v.Mountpoint, "sub"), 0o755))
	w.volume = v.Name
	disks, err := filepath.Glob("/sys/class/block/*/queue")
	require.NoError(l, err)
	for _, d := range disks {
		if dev := "/dev/" + filepath.Base(filepath.Dir(d)); w.disk == "" {
			if _, err := os.Stat(dev); err == nil {
				w.disk = dev
			}
		}
	}
	require.NotEmpty(l, w.disk, "this machine has no disk")
	return w
}

func (w *world) build(l *lab, spec engine.Spec) *build.Result {
	l.Helper()
	built, err := build.Snapshot(l.ctx, l.eng, build.Options{
		Spec: spec, Ready: build.Probe{Type: build.ProbeTCP, Port: w.port, Timeout: time.Minute}, Checkpoint: criu.DefaultOptions(), Store: l.store, NoProfile: true,
	})
	require.NoError(l, err)
	return built
}

// ask returns what the donor was asked for, to be changed; arrange completes it.
func (w *world) ask(l *lab) *asked {
	spec := l.spec(tiny, "")
	spec.Config.Cmd = []string{"httpd", "-f", "-p", fmt.Sprint(w.port), "-h", "/www"}
	a := &asked{l: l, Spec: spec, parent: w.parent, disk: w.disk}
	a.mounts = map[string]*mount.Mount{
		"/m":   {Type: mount.TypeBind, Source: w.plain, Target: "/m", BindOptions: &mount.BindOptions{}},
		"/r":   {Type: mount.TypeBind, Source: w.plain, Target: "/r", ReadOnly: true, BindOptions: &mount.BindOptions{}},
		"/vol": {Type: mount.TypeVolume, Source: w.volume, Target: "/vol", VolumeOptions: &mount.VolumeOptions{}},
		"/tm":  {Type: mount.TypeTmpfs, Target: "/tm", TmpfsOptions: &mount.TmpfsOptions{}},
	}
	a.Host.Binds = []string{w.plain + ":/v"}
	a.Host.Tmpfs = map[string]string{"/t": ""}
	a.arrange()
	return a
}

func (a *asked) arrange() {
	a.Host.Mounts = nil
	for _, target := range []string{"/m", "/r", "/vol", "/tm"} {
		a.Host.Mounts = append(a.Host.Mounts, *a.mounts[target])
	}
}

// requireEveryKey fails when the engine's API has a key that is not in the table, or the table one that the API has not.
func requireEveryKey(t *testing.T) {
	t.Helper()
	var api, table []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			switch {
			case f.Anonymous:
				walk(prefix, f.Type)
			case f.Type == reflect.TypeFor[[]mount.Mount]():
				walk(prefix+f.Name+"[].", f.Type.Elem())
			case of.PkgPath() == reflect.TypeFor[mount.Mount]().PkgPath() && f.Type.Kind() == reflect.Pointer && f.Type.Elem().NumField() > 0:
				walk(prefix+f.Name+".", f.Type.Elem())
			default:
				api = append(api, prefix+f.Name)
			}
		}
	}
	walk("HostConfig.", reflect.TypeFor[container.HostConfig]())
	walk("Config.", reflect.TypeFor[container.Config]())
	for _, k := range keys {
		table = append(table, k.name)
	}
	require.Equal(t, api, table)
}

// page is docs/what-is-the-clones.md.
func page() string {
	var b strings.Builder
	b.WriteString(`<!-- Generated in the lab by go test ./shared/e2e -run TestWhatIsTheClones -update; do not edit. -->

# What is the clone's

A clone is the donor's processes in a container of its own. This page goes through every key of the Docker Engine's request for
a container. A test compared a container that booted with a clone of the same request, by what the kernel reports of both: mounts
with their flags, propagation and sizes, limits, control groups, OOM score, namespaces, capabilities, seccomp, user and groups,
command, environment, directory, umask, files in /etc, and network interfaces.

- [HostConfig](#hostconfig): mounts, network, privileges, limits and devices
- [Config](#config): command, environment, user and labels

| | |
|---|---|
`)
	for _, v := range []struct {
		verdict
		means string
	}{
		{own, "A clone has what it asks for, before its first instruction, whatever its donor had."},
		{fit, "A clone would have the donor's. So a snapshot is used only where both are equal; otherwise the container boots cold (`if_present`) or doesn't start (`always`), with the reason."},
		{engines, "The engine does this for any container, and the processes see nothing of it."},
		{nothing, "It means nothing to a container here."},
	} {
		fmt.Fprintf(&b, "| *%s* | %s |\n", v.verdict, v.means)
	}
	b.WriteString(`
A clone has these from its donor:

- memory, and so whatever was computed at boot;
- open files and their contents, on volumes and bind mounts where these [lack them](mounts.md);
- what is in /dev and in each tmpfs;
- the variable ` + "`HOSTNAME`" + ` and those that an orchestrator sets for each allocation;
- what the app itself has set since it was started, such as mounts, umask, limits and OOM scores.
`)
	section := ""
	for _, k := range keys {
		of, name, _ := strings.Cut(k.name, ".")
		if of != section {
			section = of
			fmt.Fprintf(&b, "\n## %s\n\n| key | is | |\n|---|---|---|\n", of)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, k.is, k.remark)
	}
	return b.String()
}
