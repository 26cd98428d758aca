package snapshot

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/criu-docker/criu-docker/shared/criu"
)

// Risk is something about a snapshot that a reviewer should know before it goes to production.
type Risk struct {
	Kind    string   `json:"kind"`
	Message string   `json:"message"`         // in one sentence
	Items   []string `json:"items,omitempty"` // what it is about: names, paths, sockets
	See     string   `json:"see"`             // section of the manual, FILE#SECTION
}

// Kinds of risks.
const (
	RiskSecrets    = "secrets"     // variables whose names look like secrets; their values are in the memory
	RiskGenerators = "generators"  // random generators whose state all clones share
	RiskHooks      = "hooks"       // what runs in every clone before it counts as started
	RiskMountFiles = "mount_files" // files that the mounts of clones must have, and that the snapshot has not
	RiskKeptFiles  = "kept_files"  // files of mounts that the snapshot has, and puts on those of clones
	RiskAddresses  = "addresses"   // sockets that are bound to addresses of the donor
	RiskCPU        = "cpu"         // features that a host's processor must have
	RiskLosses     = "losses"      // what clones lack without an error
)

// Risks returns what a reviewer should know, from what the build has found. No value of an environment variable is in it.
func (c Config) Risks() []Risk {
	var list []Risk
	add := func(kind, see string, items []string, format string, args ...any) {
		list = append(list, Risk{Kind: kind, Message: fmt.Sprintf(format, args...), Items: items, See: see})
	}
	if names := secretNames(c.Run.Env); len(names) > 0 {
		add(RiskSecrets, "docs/terraform.md#reviewing-a-snapshot", names, "the memory holds the values of variables that look like secrets, and every clone has them")
	}
	if len(c.Generators) > 0 {
		cure := "no hook seeds them anew"
		if len(c.Hooks.AfterRestore) > 0 {
			cure = "see that the hooks after the restore seed all of them anew"
		}
		add(RiskGenerators, "docs/randomness.md#what-to-know", c.Generators, "all clones begin with the same state of random generators: %s", cure)
	}
	if hooks := c.Hooks.AfterRestore; len(hooks) > 0 {
		var items []string
		for _, h := range hooks {
			items = append(items, h.String())
		}
		add(RiskHooks, "docs/hooks.md#hooks", items, "hooks run in every clone, and one that fails fails the start")
	}
	if files := c.filesToBring(); len(files) > 0 {
		add(RiskMountFiles, "docs/mounts.md#what-is-not-kept", files,
			"the app held files on mounts that are not in the snapshot: those of a clone must have them as they were, or it is not restored")
	}
	if len(c.KeptFiles) > 0 {
		secret := ""
		if slices.ContainsFunc(c.KeptFiles, func(f criu.MountFile) bool { return f.Mount == "/secrets" || f.Mount == "/run/secrets" }) {
			secret = ", secrets among them"
		}
		add(RiskKeptFiles, "docs/mounts.md#files-on-mounts", mountFileNames(c.KeptFiles),
			"the snapshot has files of mounts%s, and every start puts on a clone's mounts what these lack of them", secret)
	}
	if bound := c.BoundSockets(); len(bound) > 0 {
		var items []string
		for _, s := range bound {
			items = append(items, strings.TrimSpace(s.Protocol+" "+s.Source+" "+s.State))
		}
		slices.Sort(items)
		add(RiskAddresses, "docs/architecture.md#the-runtime-between-runc-and-criu", slices.Compact(items),
			"sockets are bound to addresses of the donor: clones get their own instead where that can be, and are not restored elsewhere")
	}
	if needed := c.Host.NeededFeatures(); len(needed) > 0 {
		level := "of " + c.Host.CPUModel
		if c.Host.CPUBaseline != "" {
			level = "of " + string(c.Host.CPUBaseline)
		}
		add(RiskCPU, "docs/cpu.md#processors", needed, "a host's processor must have the features %s, and save registers in %d bytes", level, c.Host.XSaveSize)
	}
	if c.Losses == nil {
		add(RiskLosses, "docs/architecture.md#limits", nil, "files on mounts, and what clones lack without an error, are not known: an earlier version made the snapshot")
		return list
	}
	for _, l := range *c.Losses {
		add(RiskLosses, "docs/architecture.md#limits", nil, "%s", l)
	}
	return list
}

// filesToBring names what clones' mounts must have of themselves.
func (c Config) filesToBring() []string {
	return mountFileNames(slices.DeleteFunc(slices.Clone(c.MountFiles), func(f criu.MountFile) bool { return slices.Contains(c.KeptFiles, f) }))
}

func mountFileNames(files []criu.MountFile) (names []string) {
	for _, f := range files {
		names = append(names, f.Path+" on "+f.Mount)
	}
	return names
}

// Names that look like secrets. Short words count only as words of their own, "key" only after another word.
var (
	secretName = regexp.MustCompile(`(?i)PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|API[-_.]?KEY|CONNECTION[-_.]?STRING|` +
		`(^|[-_.])(PASS|TOKENS?|AUTH|JWT|DSN|SALT|COOKIE|(DATABASE|DB|REDIS|MONGO\w*|AMQP|BROKER|POSTGRES\w*|MYSQL)[-_.]?UR[IL])([-_.]|$)|` +
		`.[-_.](KEYS?|PWD)([-_.]|$)`)
	plainName = regexp.MustCompile(`(?i)PUBLIC[-_.]?KEY|^GPG_KEYS?$|^OLD_?PWD$`)
)

func secretNames(env map[string]string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if secretName.MatchString(name) && !plainName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}
