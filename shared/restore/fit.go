package restore

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/image"

	"github.com/criu-docker/criu-docker/shared/criu"
	"github.com/criu-docker/criu-docker/shared/snapshot"
)

// Misfit says why a snapshot may not be used for a start. Its text is one sentence for users.
type Misfit struct {
	Field  string // what differs, for example "command"
	Reason string
}

func (m *Misfit) Error() string { return m.Reason }

// Fit reports whether a container of img that is to be started with run may be restored from a snapshot on this host.
// It returns the first *Misfit, or nil.
func Fit(cfg snapshot.Config, img image.InspectResponse, run snapshot.RunConfig, host criu.Host) error {
	frozen := cfg.Run
	checks := []struct {
		field        string
		frozen, want any
	}{
		{"image", cfg.Image.ID.String(), img.ID},
		{"architecture", cfg.Image.Arch, img.Architecture},
		{"command", frozen.Args, run.Args},
		{"user", orSuperuser(frozen.User), orSuperuser(run.User)},
		{"working directory", orRoot(frozen.WorkingDir), orRoot(run.WorkingDir)},
		{"terminal", frozen.TTY, run.TTY},
		{"open standard input", frozen.Stdin, run.Stdin},
		{"domain name", frozen.Domainname, run.Domainname},
	}
	if run.TTY {
		return misfit("terminal", "the container has a terminal, which the engine needs before a clone can have one")
	}
	for _, c := range checks {
		if !reflect.DeepEqual(c.frozen, c.want) {
			return misfit(c.field, "the snapshot's %s is %s and the container's is %s", c.field, quote(c.frozen), quote(c.want))
		}
	}
	if err := fitEnv(frozen.Env, run.Env); err != nil {
		return err
	}
	if err := fitMounts(frozen.Mounts, run.Mounts); err != nil {
		return err
	}
	if err := fitSecurity(frozen.Security, run.Security); err != nil {
		return err
	}
	if err := criu.CheckHost(cfg.Host.Host, host); err != nil {
		return misfit("host", "%s", err)
	}
	return nil
}

// fitEnv compares by hash; values are never shown.
func fitEnv(frozen, want map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch value, ok := frozen[name]; {
		case !ok:
			return misfit("environment", "the container sets the environment variable %s, which the snapshot does not have", name)
		case value != want[name]:
			return misfit("environment", "the environment variable %s has another value in the snapshot", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(frozen)) {
		if _, ok := want[name]; !ok {
			return misfit("environment", "the snapshot has the environment variable %s, which the container does not set", name)
		}
	}
	return nil
}

func fitMounts(frozen, want []snapshot.Mount) error {
	has := map[string]snapshot.Mount{}
	for _, m := range frozen {
		has[m.Destination] = m
	}
	for _, m := range want {
		f, ok := has[m.Destination]
		if !ok {
			return misfit("mounts", "the container mounts %s, which the snapshot does not have", m.Destination)
		}
		if f != m {
			return misfit("mounts", "the mount at %s is %s in the snapshot and %s in the container", m.Destination, describeMount(f), describeMount(m))
		}
		delete(has, m.Destination)
	}
	for _, m := range frozen {
		if _, left := has[m.Destination]; left {
			return misfit("mounts", "the snapshot has a mount at %s, which the container does not have", m.Destination)
		}
	}
	return nil
}

func fitSecurity(frozen, want snapshot.Security) error {
	f, w := reflect.ValueOf(frozen), reflect.ValueOf(want)
	for i := range f.NumField() {
		if !reflect.DeepEqual(f.Field(i).Interface(), w.Field(i).Interface()) {
			name, _, _ := strings.Cut(f.Type().Field(i).Tag.Get("json"), ",")
			return misfit(name, "%s is %s in the snapshot and %s in the container", name, quote(f.Field(i).Interface()), quote(w.Field(i).Interface()))
		}
	}
	return nil
}

func describeMount(m snapshot.Mount) string {
	kind := m.Type
	if m.Directory != "" {
		kind += " with " + m.Directory
	}
	if m.ReadOnly {
		return "a read-only " + kind
	}
	return "a writable " + kind
}

func orSuperuser(user string) string {
	if user == "" {
		return "root"
	}
	return user
}

func orRoot(dir string) string {
	if dir == "" {
		return "/"
	}
	return dir
}

func quote(v any) string {
	if p, ok := v.(*[]string); ok {
		if p == nil {
			return "the engine's default"
		}
		v = *p
	}
	return fmt.Sprintf("%q", fmt.Sprint(v))
}

func misfit(field, format string, args ...any) error {
	return &Misfit{Field: field, Reason: fmt.Sprintf(format, args...)}
}
