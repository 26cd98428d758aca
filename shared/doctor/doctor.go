// Package doctor finds out whether a machine is fit for criu-docker, and says what to do where it is not.
package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/system"

	"github.com/criu-docker/criu-docker/shared/engine"
)

// Status is the outcome of one check.
type Status string

// The outcomes.
const (
	OK   Status = "ok"   // as it should be
	Warn Status = "warn" // works, but slower, or not for every app
	Fail Status = "fail" // does not work
)

// Check is one finding, in words for people.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Found  string `json:"found"`            // what is there
	Want   string `json:"want,omitempty"`   // what should be there
	Remedy string `json:"remedy,omitempty"` // what to do, unless Status is OK
	// Notes are what some apps will meet, whatever Status is; one sentence each.
	Notes []string `json:"notes,omitempty"`
}

// Options say what to look at.
type Options struct {
	Host     string // the engine's address; "" means as engine.Connect takes it
	CacheDir string // where unpacked snapshots are kept; "" leaves it out
}

// timeout bounds the whole examination; every part of it answers within a second on a machine that is well.
const timeout = 30 * time.Second

// Run makes all checks, in the order in which to mend what they find. It only looks: nothing on the machine is changed.
func Run(ctx context.Context, opts Options) []Check {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	checks := []Check{platform(), user(), kernel(), socketLookup(), checkCRIU(ctx), criuCache(), userfaults(), tools()}
	checks = append(checks, engineChecks(ctx, opts.Host)...)
	if opts.CacheDir != "" {
		checks = append(checks, cacheDir(opts.CacheDir))
	}
	return checks
}

// Err returns nil if nothing failed, else an error that names every failed check with its remedy.
func Err(checks []Check) error {
	var failed []string
	for _, c := range checks {
		if c.Status == Fail {
			failed = append(failed, fmt.Sprintf("%s: %s: %s", c.Name, c.Found, c.Remedy))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("this machine is not fit for criu-docker: %s", strings.Join(failed, "; "))
}

// engineChecks looks at the engine; when it can't be reached there is only that to say.
func engineChecks(ctx context.Context, host string) []Check {
	c := Check{Name: "docker engine", Want: "version " + minEngine + " or later, on this machine"}
	eng, err := engine.Connect(ctx, host)
	if err != nil {
		return []Check{c.fail(err.Error(), "install and start Docker Engine, and give this user access to its socket")}
	}
	defer eng.Close()
	version, err := eng.Client.ServerVersion(ctx)
	if err != nil {
		return []Check{c.fail(err.Error(), "look at dockerd's log")}
	}
	if check, ok := notDocker(c, version); ok {
		return []Check{check}
	}
	info, err := eng.Client.Info(ctx)
	if err != nil {
		return []Check{c.fail(err.Error(), "look at dockerd's log")}
	}
	runtime := runtimeRegistered(ctx, info)
	checks := []Check{
		engineVersion(c, info, eng.Client.DaemonHost()), engineCapabilities(eng.Client.DaemonHost()), experimental(info), storageDriver(info),
		userNamespaces(info), securityModules(info), cgroups(info), runtime, runtimeFeatures(info),
	}
	if runtime.Status == OK {
		checks = append(checks, pageServer(ctx, runtime.Found))
	}
	return append(checks, runcVersion(ctx, info))
}

func (c Check) ok(found string) Check {
	c.Status, c.Found = OK, found
	return c
}

func (c Check) warn(found, remedy string) Check {
	c.Status, c.Found, c.Remedy = Warn, found, remedy
	return c
}

func (c Check) fail(found, remedy string) Check {
	c.Status, c.Found, c.Remedy = Fail, found, remedy
	return c
}

// hasOption reports whether the engine runs with a security option such as "rootless".
func hasOption(info system.Info, name string) bool {
	for _, option := range info.SecurityOptions {
		for _, part := range strings.Split(option, ",") {
			if part == "name="+name {
				return true
			}
		}
	}
	return false
}
