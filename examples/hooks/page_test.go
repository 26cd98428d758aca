package hooks

import (
	"fmt"
	"strings"
)

const preface = `<!-- Generated in the lab by go test ./examples/hooks -run TestUniqueness -update; do not edit. -->

# Randomness

Two clones of one snapshot are the same process, down to the state of its random number generators. Until something reseeds these,
both clones return the same values: the same session ids, the same tokens, the same keys. What comes from the kernel at the time of
the call is each clone's own.

- [What to know](#what-to-know)
- Hooks to copy: [Python](#python), [Node.js](#nodejs), [Ruby](#ruby), [PHP](#php), [Java](#java), [Erlang](#erlang),
  [LuaJIT](#luajit), [nginx](#nginx)

Tell the app that it is a clone, with a hook that runs before the clone is reachable:

    criu-docker build web:1.4 --ready http://:8080/ --after-restore http://:8080/after-restore

The hook gets 64 random bytes that no other clone has. The services below reseed everything from them. Copy what you need. The test
that writes this page starts four clones of each without the hook, and eight with it. Two of the four have in common what the
table calls shared. Among the eight, no two have a value in common unless the table says so.

## What to know

- **OpenSSL** has a generator of its own in each process, and most runtimes' functions for keys and tokens use it. It reseeds itself when the
  process id changes, and after an hour by the wall clock (its source says so; the test's clones are seconds old). A clone has its
  donor's process ids. So all clones of a snapshot share its output until the snapshot is an hour old. ` + "`RAND_poll` and `RAND_add`" + ` reseed it from the kernel for all threads at once, whatever bytes they are given.
- **OpenSSL without a hook.** With a small provider, [openssl/kernel.c](../examples/hooks/openssl/kernel.c), OpenSSL 3 asks the kernel at each call, in all
  processes and threads, and the app stays as it is:` + " `OPENSSL_CONF`" + ` names [a configuration](../examples/hooks/openssl/openssl.cnf).
  The test uses it with Node and nginx. A setting alone is not enough: with ` + "`random = SEED-SRC`" + `, OpenSSL 3.5 fails (“seed sources must not have a parent”).
- **Several processes.** A hook reaches one of them. If a master forks workers, let the hook make it fork new ones, and wait until
  the old ones are gone: ` + "`nginx/after-restore.sh`" + ` does that, and [compatibility.md](compatibility.md) does the same with gunicorn,
  Puma and PHP-FPM. What the master itself has made, such as keys that its workers inherit, has to be made anew.
- **What was made before the freeze** stays as it is: instance ids, keys, connection pools' tokens, batches of ids. Make them when
  they are first needed, or make them again in the hook.
- **The kernel's own** are never shared: ` + "`getrandom`, `/dev/urandom`" + `, and the C library's shortcut through the vDSO. The state of
  the shortcut comes back empty, since it is in memory that the kernel may drop (` + "`MAP_DROPPABLE`" + `).
- **Seeds of hash tables** are made at boot, and so are the same in all clones of a snapshot. No hook changes them. The test looks at
  Python's.
`

// page is docs/randomness.md.
func page() string {
	var b strings.Builder
	b.WriteString(preface)
	for _, r := range runtimes {
		fmt.Fprintf(&b, "\n## %s\n\nHook: `%s`, in [%s](../examples/hooks/%s)\n\n| | shared without a hook | with it |\n|---|---|---|\n",
			r.name, r.hook, r.source, r.source)
		for _, g := range r.generators {
			shared, with := "no", g.cure
			switch {
			case !g.shared:
			case g.cure == "":
				shared, with = "**yes**", "still shared: nothing seeds it"
			default:
				shared = "**yes**"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", g.name, shared, with)
		}
		if r.note != "" {
			fmt.Fprintf(&b, "\n%s\n", r.note)
		}
	}
	return b.String()
}
